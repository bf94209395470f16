//! Puts the shader modules together and validates them: a shader that does not hold is an error of the build.
#![allow(clippy::print_stdout)]

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=shaders");
    #[cfg(feature = "gpu")]
    shaders::build();
}

#[cfg(feature = "gpu")]
mod shaders {
    use std::path::Path;
    use std::{env, fs};

    use naga::valid::{Capabilities, ValidationFlags, Validator};

    /// Each module: its name, its parts, and what it needs beyond plain WGSL.
    const MODULES: &[(&str, &[&str], Capabilities)] = &[
        ("combine", &["combine"], Capabilities::empty()),
        ("ddsketch", &["ddsketch_window", "ddsketch"], Capabilities::empty()),
        ("ddsketch_merge", &["ddsketch_window", "ddsketch_merge"], Capabilities::empty()),
        ("discord", &["discord"], Capabilities::empty()),
        ("drift", &["drift"], Capabilities::FLOAT64),
        ("ewma", &["ewma"], Capabilities::FLOAT64),
        ("forest", &["forest"], Capabilities::empty()),
        ("global", &["aggregate", "aggregate_global"], Capabilities::empty()),
        ("histogram", &["histogram"], Capabilities::empty()),
        ("hll", &["hll"], Capabilities::empty()),
        ("hll_merge", &["hll_merge"], Capabilities::empty()),
        ("knn", &["knn"], Capabilities::empty()),
        ("mahalanobis", &["mahalanobis"], Capabilities::empty()),
        ("partition", &["scan", "wide", "partition"], Capabilities::empty()),
        ("prefix_sum", &["scan", "prefix_sum"], Capabilities::empty()),
        ("private", &["aggregate", "aggregate_private", "lanes_plain"], Capabilities::empty()),
        ("private_subgroup", &["aggregate", "aggregate_private", "lanes_subgroup"], Capabilities::SUBGROUP),
        ("rolling_moments", &["rolling_tree", "wide", "rolling_moments"], Capabilities::empty()),
        ("rolling_order", &["rolling_tree", "rolling_order"], Capabilities::empty()),
        ("selection", &["scan", "selection"], Capabilities::empty()),
        ("smooth", &["smooth"], Capabilities::FLOAT64),
    ];

    pub fn build() {
        let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
        for (name, parts, needs) in MODULES {
            let read = |part: &&str| fs::read_to_string(format!("shaders/{part}.wgsl")).unwrap_or_else(|error| panic!("{part}: {error}"));
            let source = parts.iter().map(read).collect::<Vec<_>>().join("\n");
            validate(name, &source, *needs);
            fs::write(Path::new(&out).join(format!("{name}.wgsl")), source).expect("OUT_DIR can be written");
        }
    }

    fn validate(name: &str, source: &str, needs: Capabilities) {
        let module = naga::front::wgsl::parse_str(source).unwrap_or_else(|error| panic!("{name}: {}", error.emit_to_string(source)));
        let mut validator = Validator::new(ValidationFlags::all(), needs);
        validator.subgroup_stages(naga::valid::ShaderStages::COMPUTE).subgroup_operations(naga::valid::SubgroupOperationSet::all());
        if let Err(error) = validator.validate(&module) {
            panic!("{name}: {}", error.emit_to_string(source));
        }
    }
}
