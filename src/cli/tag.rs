//! `ablate tag`: names for runs, which also protect them from `ablate gc`.

use crate::cli::lookup::{self, LookupError, Target, duration, ignore_closed_pipe};
use crate::rundir::log::unix_time;
use crate::store::{Store, Tag};
use clap::Args;
use std::io::Write;
use std::path::Path;

/// Mark runs with tags, which also protect them from `ablate gc`
///
/// Without NAME: shows the tags of a run, or all. A tag stays with the run as it was planned when it was tagged.
/// `ablate query "SELECT run FROM v_tags WHERE tag = 'paper'"` and `ablate status --tag paper` choose by it.
#[derive(Debug, Clone, Args)]
pub struct TagArgs {
    /// Id of a run (`EXPERIMENT/VARIANT/sSEED`), the beginning of one, or the name of an experiment for all its runs
    #[arg(value_name = "RUN|EXPERIMENT")]
    pub run: Option<String>,
    /// The tag: letters, digits, `-`, `_` and `.`
    #[arg(value_name = "NAME", requires = "run")]
    pub name: Option<String>,
    /// Take the tag away
    #[arg(long, requires = "name")]
    pub remove: bool,
}

/// Runs the command on the store at `dir`: lists to `out`, notes to `err`.
pub async fn run(
    args: &TagArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    ignore_closed_pipe(tag(args, dir, out, err).await)
}

async fn tag(
    args: &TagArgs,
    dir: &Path,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), LookupError> {
    let reader = lookup::open(dir, err).await?;
    let (Some(run), Some(name)) = (&args.run, &args.name) else {
        let runs = match &args.run {
            Some(run) => Some(runs_of(&reader, run, &[]).await?),
            None => None,
        };
        return list(reader.tags().await?, runs.as_deref(), out);
    };
    check(name)?;
    let former = match args.remove {
        true => reader.tags().await?,
        false => Vec::new(),
    };
    let runs = runs_of(&reader, run, &former).await?;
    drop(reader);
    let (store, _lock) = Store::open_beside(dir).await?;
    let count = match args.remove {
        true => store.untag(&runs, name).await?,
        false => store.tag(&runs, name).await?,
    };
    store.close().await?;
    match (args.remove, count, runs.as_slice()) {
        (true, 0, _) => Err(LookupError::Nothing(format!("`{run}` has no tag `{name}`"))),
        (_, count, [one]) if count <= 1 => {
            let done = match (args.remove, count) {
                (true, _) => "no longer has the tag",
                (false, 0) => "already has the tag",
                (false, _) => "has the tag",
            };
            Ok(writeln!(err, "{one} {done} {name}")?)
        }
        (true, count, _) => Ok(writeln!(err, "{count} runs no longer have the tag {name}")?),
        (false, count, runs) => Ok(writeln!(
            err,
            "{} runs have the tag {name}, {count} of them now",
            runs.len()
        )?),
    }
}

/// Ids of the runs that `name` stands for; `former`: tags of runs that may be in no current plan.
async fn runs_of(store: &Store, name: &str, former: &[Tag]) -> Result<Vec<String>, LookupError> {
    if store.experiments().await?.iter().any(|e| e.name == name) {
        let mut runs: Vec<String> = store
            .runs(Some(name))
            .await?
            .into_iter()
            .map(|run| run.id)
            .collect();
        let prefix = format!("{name}/");
        runs.extend(
            former
                .iter()
                .filter(|tag| !tag.current && tag.run.starts_with(&prefix))
                .map(|tag| tag.run.clone()),
        );
        runs.sort();
        runs.dedup();
        return Ok(runs);
    }
    if former.iter().any(|tag| tag.run == name) {
        return Ok(vec![name.to_owned()]);
    }
    match lookup::find(store, name).await? {
        Target::Run(run) => Ok(vec![run.id]),
        Target::Stage(_) => Err(LookupError::Nothing(format!(
            "`{name}` is a stage: tags are for runs"
        ))),
    }
}

fn check(name: &str) -> Result<(), LookupError> {
    let fine = |c: char| c.is_alphanumeric() || ['-', '_', '.'].contains(&c);
    if name.is_empty() || name.chars().count() > 64 || !name.chars().all(fine) {
        return Err(LookupError::Nothing(format!(
            "`{}` can't be a tag: it takes 1 to 64 letters, digits, `-`, `_` and `.`",
            crate::report::text::clean(name)
        )));
    }
    Ok(())
}

fn list(tags: Vec<Tag>, runs: Option<&[String]>, out: &mut dyn Write) -> Result<(), LookupError> {
    let now = unix_time();
    let rows: Vec<Vec<String>> = tags
        .into_iter()
        .filter(|tag| runs.is_none_or(|runs| runs.contains(&tag.run)))
        .map(|tag| {
            let plan = if tag.current { "" } else { "of a former plan" };
            let age = format!("{} ago", duration(now - tag.time));
            vec![tag.tag, tag.run, age, plan.to_owned()]
        })
        .collect();
    if rows.is_empty() {
        return Ok(writeln!(
            out,
            "There are no tags: `ablate tag RUN NAME` sets one."
        )?);
    }
    let head = ["tag", "run", "since", ""].map(str::to_owned);
    Ok(out.write_all(lookup::grid(&head, rows, &[]).as_bytes())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_words() {
        for good in ["paper", "v1.0", "best_of-3", "größer"] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a,b", "a'b", "x\n", &"x".repeat(65)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
