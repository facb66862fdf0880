//! Whether two stores hold the same, and whether each is sound.

use super::{Lab, SoakError};
use std::collections::BTreeMap;
use std::path::Path;

/// What must be the same, as questions to the store. Not asked for: times, speeds, steps logged by time, and
/// attempts, of which a killed execution has more.
const SAME: [(&str, &str); 4] = [
    (
        "runs",
        "SELECT experiment, run, variant, variant_index, labels, seed, profile, status, failure, stages,
             fingerprint FROM v_runs ORDER BY run",
    ),
    (
        "results",
        "SELECT run, stage, fingerprint, eval_set, resolution, metric, value, finite, epoch, step, headline
         FROM v_results ORDER BY run, stage, eval_set, resolution, metric",
    ),
    (
        "metrics",
        "SELECT run, stage, fingerprint, metric, resolution, epoch, step, value, finite FROM v_metrics
         WHERE metric NOT LIKE 'step/%' AND metric <> 'seconds'
         ORDER BY run, stage, metric, resolution, epoch, step",
    ),
    (
        "states of stages",
        "SELECT fingerprint, stage, SUM(status = 'done') AS done, SUM(status = 'running') AS running
         FROM v_attempts GROUP BY fingerprint, stage ORDER BY fingerprint",
    ),
];

/// What a comparison saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Found {
    pub stages: usize,
    /// Attempts that went on from a checkpoint.
    pub resumed: u64,
}

/// Compares the store `other` with the store `calm`.
pub fn stores(lab: &Lab<'_>, calm: &str, other: &str) -> Result<Found, SoakError> {
    let broken = |what: String| Err(SoakError::Broken(format!("{other}: {what}")));
    for store in [calm, other] {
        let check = lab.ask(store, "SELECT * FROM pragma_integrity_check")?;
        if check.matches("\"ok\"").count() != 1 {
            return broken(format!("the database of {store} is damaged: {check}"));
        }
    }
    for (what, sql) in SAME {
        let (expected, found) = (lab.ask(calm, sql)?, lab.ask(other, sql)?);
        if expected.len() < 10 {
            return broken(format!("the calm store has no {what}"));
        }
        if let Some(line) = first_difference(&expected, &found) {
            return broken(format!("{what} differ: {line}"));
        }
    }
    let once = lab.ask(
        other,
        "SELECT COUNT(*) AS bad FROM (SELECT fingerprint FROM v_attempts GROUP BY fingerprint
         HAVING SUM(status = 'done') <> 1 OR SUM(status = 'running') <> 0)",
    )?;
    if !once.contains("\"bad\": 0") && !once.contains("\"bad\":0") {
        return broken(format!("stages weren't done exactly once: {once}"));
    }
    let (expected, found) = (files(lab, calm)?, files(lab, other)?);
    if let Some(what) = different_files(&expected, &found) {
        return broken(what);
    }
    for store in [calm, other] {
        lab.ablate(&format!(
            "report --no-plots --store {store} --out {store}/reports"
        ))?;
    }
    let (expected, found) = (reports(lab, calm)?, reports(lab, other)?);
    if let Some(what) = different_files(&expected, &found) {
        return broken(what);
    }
    let mut seen = Found::default();
    for (name, events) in events(lab, other)? {
        seen.stages += 1;
        let of = |kind: &str| events.matches(&format!("\"kind\":\"{kind}\"")).count();
        if of("finished") != 1 {
            return broken(format!("{name} finished {} times", of("finished")));
        }
    }
    let resumed = lab.ask(
        other,
        "SELECT fingerprint, attempt FROM v_attempts WHERE resumed_step > 0",
    )?;
    seen.resumed = resumed.matches("\"attempt\"").count() as u64;
    Ok(seen)
}

fn first_difference(expected: &str, found: &str) -> Option<String> {
    if expected == found {
        return None;
    }
    let mut lines = expected.lines().zip(found.lines());
    let line = lines.find(|(one, other)| one != other);
    Some(line.map_or_else(
        || {
            format!(
                "{} lines and {}",
                expected.lines().count(),
                found.lines().count()
            )
        },
        |(one, other)| format!("`{}` and `{}`", one.trim(), other.trim()),
    ))
}

/// Files by their path in the store.
type Files = BTreeMap<String, Vec<u8>>;

/// The results of all stages: weights and predictions.
fn files(lab: &Lab<'_>, store: &str) -> Result<Files, SoakError> {
    let mut found = Files::new();
    collect(
        &lab.folder.join(store).join("stages"),
        "stages",
        &|name| name.ends_with(".safetensors") || name.ends_with(".bin") || name.starts_with('.'),
        &mut found,
    )?;
    Ok(found)
}

/// Pages that name the day, times and attempts.
const DATED: [&str; 2] = ["index.html", "report.md"];

/// The report's tables and summaries.
fn reports(lab: &Lab<'_>, store: &str) -> Result<Files, SoakError> {
    let mut found = Files::new();
    collect(
        &lab.folder.join(store).join("reports"),
        "reports",
        &|name| !DATED.contains(&name),
        &mut found,
    )?;
    Ok(found)
}

/// The event logs by stage.
fn events(lab: &Lab<'_>, store: &str) -> Result<BTreeMap<String, String>, SoakError> {
    let mut found = Files::new();
    collect(
        &lab.folder.join(store).join("stages"),
        "stages",
        &|name| name == "events.jsonl",
        &mut found,
    )?;
    Ok(found
        .into_iter()
        .map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes).into_owned()))
        .collect())
}

fn collect(
    folder: &Path,
    name: &str,
    wanted: &dyn Fn(&str) -> bool,
    found: &mut Files,
) -> Result<(), SoakError> {
    for entry in std::fs::read_dir(folder).map_err(super::io("read", folder))? {
        let entry = entry.map_err(super::io("read", folder))?;
        let own = entry.file_name().to_string_lossy().into_owned();
        let (path, shown) = (entry.path(), format!("{name}/{own}"));
        if path.is_dir() {
            collect(&path, &shown, wanted, found)?;
        } else if wanted(&own) {
            let bytes = std::fs::read(&path).map_err(super::io("read", &path))?;
            found.insert(shown, bytes);
        }
    }
    Ok(())
}

/// What is different between two sets of files.
fn different_files(expected: &Files, found: &Files) -> Option<String> {
    if expected.is_empty() {
        return Some("there are no files to compare".to_owned());
    }
    let missing = expected.keys().find(|name| !found.contains_key(*name));
    let surplus = found.keys().find(|name| !expected.contains_key(*name));
    let other = || {
        expected
            .iter()
            .find(|(name, bytes)| found.get(*name) != Some(bytes))
    };
    match (missing, surplus) {
        (Some(name), _) => Some(format!("{name} is missing")),
        (_, Some(name)) => Some(format!("{name} is left over")),
        (None, None) => other().map(|(name, _)| format!("{name} has other bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let entry = |(name, text): &(&str, &str)| ((*name).to_owned(), text.as_bytes().to_vec());
        list.iter().map(entry).collect()
    }

    #[test]
    fn a_bit_a_file_or_a_row_more_or_less_is_noticed() {
        let one = files(&[("a", "1"), ("b", "2")]);
        assert_eq!(different_files(&one, &one), None);
        for (other, what) in [
            (files(&[("a", "1")]), "b is missing"),
            (
                files(&[("a", "1"), ("b", "2"), (".new-x", "")]),
                ".new-x is left over",
            ),
            (files(&[("a", "1"), ("b", "3")]), "b has other bytes"),
        ] {
            assert_eq!(different_files(&one, &other).as_deref(), Some(what));
        }
        assert!(different_files(&Files::new(), &Files::new()).is_some());
        assert_eq!(first_difference("a\nb", "a\nb"), None);
        assert_eq!(
            first_difference("a\nb", "a\nc").as_deref(),
            Some("`b` and `c`")
        );
        assert_eq!(
            first_difference("a\nb", "a").as_deref(),
            Some("2 lines and 1")
        );
    }
}
