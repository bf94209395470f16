//! The files of the Numenta Anomaly Benchmark with their labelled windows, from NAB's own folder or from a pack of a part of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Result;

/// One series.
#[derive(Debug, Clone)]
pub struct Series {
    /// Category and file, such as `realTweets/Twitter_volume_KO.csv`.
    pub name: String,
    pub timestamps: Vec<String>,
    pub values: Vec<f64>,
    /// First and last row of each labelled window, in order.
    pub windows: Vec<(usize, usize)>,
}

/// The series of NAB that TSB-AD's univariate list holds. Its names do not tell which they are; these 25 of the 28 are known by their length and by
/// the place and number of their labelled rows.
const TSB_AD: [&str; 25] = [
    "artificialWithAnomaly/art_daily_flatmiddle.csv",
    "artificialWithAnomaly/art_daily_jumpsdown.csv",
    "artificialWithAnomaly/art_daily_jumpsup.csv",
    "artificialWithAnomaly/art_daily_nojump.csv",
    "artificialWithAnomaly/art_increase_spike_density.csv",
    "artificialWithAnomaly/art_load_balancer_spikes.csv",
    "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv",
    "realAWSCloudwatch/ec2_cpu_utilization_5f5533.csv",
    "realAWSCloudwatch/ec2_network_in_257a54.csv",
    "realAWSCloudwatch/rds_cpu_utilization_cc0c53.csv",
    "realAdExchange/exchange-2_cpm_results.csv",
    "realAdExchange/exchange-3_cpc_results.csv",
    "realAdExchange/exchange-3_cpm_results.csv",
    "realKnownCause/ambient_temperature_system_failure.csv",
    "realKnownCause/cpu_utilization_asg_misconfiguration.csv",
    "realKnownCause/ec2_request_latency_system_failure.csv",
    "realKnownCause/nyc_taxi.csv",
    "realKnownCause/rogue_agent_key_hold.csv",
    "realTraffic/TravelTime_451.csv",
    "realTraffic/occupancy_6005.csv",
    "realTraffic/occupancy_t4013.csv",
    "realTraffic/speed_6005.csv",
    "realTraffic/speed_t4013.csv",
    "realTweets/Twitter_volume_FB.csv",
    "realTweets/Twitter_volume_GOOG.csv",
];

/// Those of which it takes the first rows alone, and how many.
const CUT: [(&str, usize); 2] = [("realAdExchange/exchange-3_cpc_results.csv", 1_000), ("realTweets/Twitter_volume_GOOG.csv", 6_000)];

impl Series {
    /// The part that TSB-AD has of this series, if any.
    pub fn tsb_ad(&self) -> Option<Series> {
        let name = TSB_AD.iter().find(|name| **name == self.name)?;
        let cut = CUT.iter().find(|(cut, _)| cut == name).map_or(usize::MAX, |(_, rows)| *rows);
        let rows = self.values.len().min(cut);
        let windows = self.windows.iter().filter(|(start, _)| *start < rows).map(|(start, end)| (*start, (rows - 1).min(*end)));
        Some(Series {
            name: self.name.clone(),
            timestamps: self.timestamps[..rows].to_vec(),
            values: self.values[..rows].to_vec(),
            windows: windows.collect(),
        })
    }
}

/// Labels of a pack: rows of windows by file.
#[derive(Deserialize)]
struct Pack {
    split: String,
    files: BTreeMap<String, Labelled>,
}

#[derive(Deserialize)]
struct Labelled {
    rows: usize,
    windows: Vec<(usize, usize)>,
}

/// The series in `folder`: NAB's repository (`data/`, `labels/combined_windows.json`), or a pack, which holds `labels_X.json` with windows by
/// rows and the files under `X/`. Files may be packed by gzip.
pub fn read(folder: &Path) -> Result<Vec<Series>> {
    let combined = folder.join("labels/combined_windows.json");
    if combined.exists() {
        let windows: BTreeMap<String, Vec<(String, String)>> = serde_json::from_slice(&fs::read(&combined)?)?;
        return windows.into_iter().map(|(name, windows)| with_times(&folder.join("data"), name, &windows)).collect();
    }
    let mut series = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{}: {e}; name the folder of NAB by --nab", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("labels_") && name.ends_with(".json") {
            let pack: Pack = serde_json::from_slice(&fs::read(&path)?)?;
            for (name, labelled) in pack.files {
                series.push(with_rows(&folder.join(&pack.split), name, labelled)?);
            }
        }
    }
    if series.is_empty() {
        return Err(format!(
            "{}: neither labels/combined_windows.json nor labels_*.json; name the folder of NAB by --nab",
            folder.display()
        )
        .into());
    }
    series.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(series)
}

fn with_times(data: &Path, name: String, windows: &[(String, String)]) -> Result<Series> {
    let (timestamps, values) = rows(data, &name)?;
    // Times are written alike, the longest first, so that their order as text is theirs. Labels add fractions of a second.
    let rows_of = |(from, to): &(String, String)| {
        let first = timestamps.partition_point(|time| time.as_str() < from.split('.').next().unwrap_or_default());
        let after = timestamps.partition_point(|time| time.as_str() <= to.split('.').next().unwrap_or_default());
        (first, after.saturating_sub(1))
    };
    let windows = windows.iter().map(rows_of).collect();
    Ok(Series { name, timestamps, values, windows })
}

fn with_rows(data: &Path, name: String, labelled: Labelled) -> Result<Series> {
    let (timestamps, values) = rows(data, &name)?;
    if values.len() != labelled.rows {
        return Err(format!("{name}: {} rows, its labels are of {}", values.len(), labelled.rows).into());
    }
    Ok(Series { name, timestamps, values, windows: labelled.windows })
}

/// Columns `timestamp` and `value` of a file.
fn rows(data: &Path, name: &str) -> Result<(Vec<String>, Vec<f64>)> {
    let path = data.join(name);
    let text = if path.exists() { fs::read_to_string(&path)? } else { unpacked(&data.join(format!("{name}.gz")))? };
    let row = |line: &str| -> Result<(String, f64)> {
        let (time, value) = line.split_once(',').ok_or_else(|| format!("{name}: `{line}` is not timestamp,value"))?;
        Ok((time.to_owned(), value.trim().parse()?))
    };
    text.lines().skip(1).filter(|line| !line.is_empty()).map(row).collect()
}

fn unpacked(path: &PathBuf) -> Result<String> {
    let unpacked = Command::new("gzip").arg("-dc").arg(path).output()?;
    if !unpacked.status.success() {
        return Err(format!("{}: {}", path.display(), String::from_utf8_lossy(&unpacked.stderr).trim()).into());
    }
    Ok(String::from_utf8(unpacked.stdout)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::{Series, read};

    #[test]
    fn a_folder_in_the_layout_of_nab_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["data/real", "data/artificial", "labels"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let rows: String = (0..60).map(|minute| format!("2014-04-01 00:{minute:02}:00,{}.5\n", minute * 2)).collect();
        fs::write(path("data/real/a.csv"), format!("timestamp,value\n{rows}")).unwrap();
        fs::write(path("data/artificial/none.csv"), "timestamp,value\n2014-04-01 00:00:00,1\n\n").unwrap();
        let labels = r#"{
            "real/a.csv": [["2014-04-01 00:10:00.000000", "2014-04-01 00:19:00.000000"], ["2014-04-01 00:40:30.000000", "2014-04-01 00:45:30.000000"]],
            "artificial/none.csv": []
        }"#;
        fs::write(path("labels/combined_windows.json"), labels).unwrap();
        let series = read(folder.path()).unwrap();
        assert_eq!(series.iter().map(|series| series.name.as_str()).collect::<Vec<_>>(), ["artificial/none.csv", "real/a.csv"]);
        assert_eq!((&series[0].values[..], series[0].windows.len()), (&[1.0][..], 0));
        assert_eq!((series[1].values.len(), series[1].values[7]), (60, 14.5));
        assert_eq!(series[1].windows, [(10, 19), (41, 45)]);
        // What is not there is named.
        fs::remove_file(path("data/real/a.csv")).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("real/a.csv"));
        fs::remove_dir_all(path("labels")).unwrap();
        assert!(read(folder.path()).unwrap_err().to_string().contains("name the folder of NAB by --nab"));
    }

    #[test]
    fn the_part_that_tsb_ad_has_ends_with_its_rows() {
        let series = |name: &str| Series {
            name: name.to_owned(),
            timestamps: vec![String::new(); 1_538],
            values: vec![0.0; 1_538],
            windows: vec![(271, 321), (952, 1_002), (1_200, 1_210)],
        };
        let part = series("realAdExchange/exchange-3_cpc_results.csv").tsb_ad().unwrap();
        assert_eq!((part.values.len(), part.timestamps.len(), &part.windows[..]), (1_000, 1_000, &[(271, 321), (952, 999)][..]));
        assert_eq!(series("realAdExchange/exchange-3_cpm_results.csv").tsb_ad().unwrap().windows.len(), 3);
        assert!(series("realTweets/Twitter_volume_KO.csv").tsb_ad().is_none());
    }
}
