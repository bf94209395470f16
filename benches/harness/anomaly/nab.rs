//! The files of the Numenta Anomaly Benchmark with their labelled windows, from NAB's own folder or from a pack of a part of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Result;

/// One series.
#[derive(Debug)]
pub struct Series {
    /// Category and file, such as `realTweets/Twitter_volume_KO.csv`.
    pub name: String,
    pub timestamps: Vec<String>,
    pub values: Vec<f64>,
    /// First and last row of each labelled window, in order.
    pub windows: Vec<(usize, usize)>,
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

    use super::read;

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
}
