//! Patterns of file names.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// The paths that `pattern` stands for, sorted. `*` stands for any characters of a name, `?` for one, `[a-z]` and
/// `[!a-z]` for one of a set or outside of it. Names that begin with a dot are found only by a pattern that does.
/// What is a file's name as it stands is that file, whatever characters it has.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if nothing matches or the pattern has `**`.
pub fn expand(pattern: &str) -> Result<Vec<PathBuf>> {
    let path = Path::new(pattern);
    if pattern == "-" || path.exists() {
        return Ok(vec![path.to_path_buf()]);
    }
    if pattern.contains("**") {
        return Err(Error::config(format!("`{pattern}` has `**`, which is not supported; write one `*` for each level of folders")));
    }
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let name = component.as_os_str();
        match (component, name.to_str()) {
            (Component::Normal(_), Some(name)) if name.contains(['*', '?', '[']) => {
                found = found.iter().flat_map(|folder| children(folder, name)).collect();
            }
            _ => {
                found.iter_mut().for_each(|path| path.push(name));
                found.retain(|path| path.exists());
            }
        }
    }
    found.sort();
    match found.is_empty() {
        false => Ok(found),
        true => Err(Error::config(format!("no file matches `{pattern}`; check the path (a relative one begins at the working directory)"))),
    }
}

/// Whether a name matches the pattern of a name, as [`expand`] has it.
pub(crate) fn is_match(pattern: &str, name: &str) -> bool {
    let chars = |text: &str| text.chars().collect::<Vec<_>>();
    (!name.starts_with('.') || pattern.starts_with('.')) && matches(&chars(pattern), &chars(name))
}

/// The entries of a folder whose names match. A folder that cannot be read has none.
fn children(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let listed = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(entries) = fs::read_dir(listed) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| is_match(pattern, name))
        .map(|name| folder.join(name))
        .collect()
}

/// Whether a name matches. On a mismatch the last `*` takes one character more, so the time is at most the product
/// of both lengths.
fn matches(pattern: &[char], name: &[char]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p, n));
            p += 1;
        } else if let Some(next) = one(pattern, p, name[n]) {
            (p, n) = (next, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&rest| rest == '*')
}

/// Matches one character with what stands at `p`; returns where the pattern goes on.
fn one(pattern: &[char], p: usize, c: char) -> Option<usize> {
    match *pattern.get(p)? {
        '?' => Some(p + 1),
        '[' => set(pattern, p, c),
        literal => (literal == c).then_some(p + 1),
    }
}

/// Matches one character with a set such as `[a-z_]`. A bracket that is never closed stands for itself.
fn set(pattern: &[char], p: usize, c: char) -> Option<usize> {
    let negated = pattern.get(p + 1) == Some(&'!');
    let first = p + 1 + usize::from(negated);
    // A closing bracket that comes first belongs to the set.
    let Some(length) = pattern.iter().skip(first + 1).position(|&c| c == ']') else {
        return (c == '[').then_some(p + 1);
    };
    let members = &pattern[first..first + 1 + length];
    let mut found = false;
    let mut at = 0;
    while at < members.len() {
        let is_range = members.get(at + 1) == Some(&'-') && at + 2 < members.len();
        let last = if is_range { members[at + 2] } else { members[at] };
        found |= (members[at]..=last).contains(&c);
        at += if is_range { 3 } else { 1 };
    }
    (found != negated).then_some(first + length + 2)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_match_as_a_shell_matches_them() {
        let cases = [
            ("*", "", true),
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "a--b-b--c", true),
            ("a*b*c", "a--b-b--", false),
            ("?.x", "é.x", true),
            ("?.x", ".x", false),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[!a-c]1", "d1", true),
            ("[]x]", "]", true),
            ("[a-]", "-", true),
            ("[a", "[a", true),
            ("*****a", "bbbbbbbbbbbbbbbb", false),
        ];
        for (pattern, name, expected) in cases {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            assert_eq!(matches(&chars(pattern), &chars(name)), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn folders_are_searched_and_paths_sorted() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["2/b.log", "1/c.log", "1/a.log", "1/.hidden.log", "1/a.txt", "3/d[1].log"] {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let root = directory.path().display();
        let names = |pattern: &str| -> Vec<String> {
            let found = expand(&format!("{root}/{pattern}")).unwrap();
            found.iter().map(|path| path.strip_prefix(directory.path()).unwrap().display().to_string()).collect()
        };
        assert_eq!(names("*/*.log"), ["1/a.log", "1/c.log", "2/b.log", "3/d[1].log"]);
        assert_eq!(names("[1-2]/?.log"), ["1/a.log", "1/c.log", "2/b.log"]);
        assert_eq!(names("*/.h*"), ["1/.hidden.log"]);
        assert_eq!(names("3/d[1].log"), ["3/d[1].log"], "a file's own name");
        assert_eq!(expand("-").unwrap(), [Path::new("-")]);
        let error = expand(&format!("{root}/*.nothing")).unwrap_err().to_string();
        assert!(error.starts_with("no file matches `"), "{error}");
        assert!(expand("a/**/b").unwrap_err().to_string().contains("not supported"));
    }
}
