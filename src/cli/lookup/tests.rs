//! The commands that look into a store, on a real one.

use super::*;
use crate::cli::logs::{self, LogsArgs};
use crate::cli::query::{self, QueryArgs};
use crate::cli::show::{self, ShowArgs};
use crate::cli::status::{self, StatusArgs};
use crate::rundir::layout::RunDir;
use crate::store::rows::Status;
use crate::store::tests::{Sample, end, finish, start};
use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Query(QueryArgs),
    Status(StatusArgs),
    Show(ShowArgs),
    Logs(LogsArgs),
}

/// Runs a command line; stdout, or the error.
async fn ablate(store: &Path, words: &[&str]) -> Result<String, String> {
    let line = std::iter::once(&"ablate").chain(words);
    let program = Program::try_parse_from(line).map_err(|error| error.to_string())?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let result = match &program.command {
        Command::Query(args) => query::run(args, store, &mut out, &mut err).await,
        Command::Status(args) => status::run(args, store, &mut out, &mut err).await,
        Command::Show(args) => show::run(args, store, &mut out, &mut err).await,
        Command::Logs(args) => logs::run(args, store, &mut out, &mut err).await,
    };
    assert_eq!(String::from_utf8_lossy(&err), "", "{words:?}");
    result.map_err(|error| error.to_string())?;
    Ok(String::from_utf8(out).unwrap())
}

/// A store with one experiment: l0 done, l1 running, l2 pending; the shared stage done.
async fn sample(dir: &Path) -> (Store, Sample) {
    let store = Store::open(dir).await.unwrap();
    let sample = Sample::new("loss", 3, 1);
    sample.save(&store).await;
    finish(&store, &sample, 0, 40.0).await;
    finish(&store, &sample, 1, 57.25).await;
    store
        .begin_attempt(&sample.fingerprint(2), &start())
        .await
        .unwrap();
    (store, sample)
}

#[tokio::test]
async fn answers_come_in_four_forms() {
    let folder = tempfile::tempdir().unwrap();
    let _store = sample(folder.path()).await;
    let sql = "SELECT run, value, NULL AS n, 'a|b,\"c\"' AS t FROM v_results WHERE metric = 'top1' AND stage = 'finetune'";
    let ask = async |form: &str| {
        ablate(folder.path(), &["query", sql, "--format", form])
            .await
            .unwrap()
    };
    assert_eq!(
        ask("csv").await,
        "run,value,n,t\nloss/l0/s0,57.25,,\"a|b,\"\"c\"\"\"\n"
    );
    assert_eq!(
        ask("md").await,
        "| run | value | n | t |\n| --- | --- | --- | --- |\n| loss/l0/s0 | 57.25 |  | a\\|b,\"c\" |\n"
    );
    let json = ask("json").await;
    assert_eq!(
        json,
        "[\n  {\"run\":\"loss/l0/s0\",\"value\":57.25,\"n\":null,\"t\":\"a|b,\\\"c\\\"\"}\n]\n"
    );
    let table = ask("table").await;
    assert!(
        table.contains(" loss/l0/s0 ") && table.contains(" 57.25 "),
        "{table}"
    );
    assert_eq!(
        ablate(
            folder.path(),
            &["query", "SELECT 1 AS a WHERE 0", "--format", "json"]
        )
        .await
        .unwrap(),
        "[]\n"
    );
    assert_eq!(
        ablate(
            folder.path(),
            &["query", "SELECT 1 AS a WHERE 0", "--format", "csv"]
        )
        .await
        .unwrap(),
        "a\n"
    );
    // A terminal is not made to obey what a name says.
    let escape = ablate(folder.path(), &["query", "SELECT char(27) || '[2J' AS a"])
        .await
        .unwrap();
    assert!(!escape.contains('\u{1b}'), "{escape:?}");
}

#[tokio::test]
async fn a_query_that_writes_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let _store = sample(folder.path()).await;
    let error = ablate(folder.path(), &["query", "DELETE FROM runs"])
        .await
        .unwrap_err();
    assert!(error.contains("only reads"), "{error}");
    let error = ablate(&folder.path().join("none"), &["query", "SELECT 1"])
        .await
        .unwrap_err();
    assert!(error.contains("there is no store at"), "{error}");
    assert!(ablate(folder.path(), &["query"]).await.is_err());
}

#[tokio::test]
async fn the_schema_needs_no_store() {
    for form in ["table", "csv", "json", "md"] {
        let text = ablate(
            Path::new("/nowhere"),
            &["query", "--schema", "--format", form],
        )
        .await
        .unwrap();
        for view in crate::store::view_docs() {
            assert!(text.contains(&view.name), "{form}: {}", view.name);
            assert!(
                view.columns
                    .iter()
                    .all(|column| text.contains(&column.name)),
                "{form}: {}",
                view.name
            );
        }
    }
}

/// A pipe whose reader is gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_closed_pipe_is_success() {
    let folder = tempfile::tempdir().unwrap();
    let (store, sample) = sample(folder.path()).await;
    let log = RunDir::in_store(folder.path(), &sample.fingerprint(1)).attempt_log(1);
    std::fs::create_dir_all(log.parent().unwrap()).unwrap();
    std::fs::write(log, "text").unwrap();
    drop(store);
    let mut err = Vec::new();
    for words in [
        vec!["query", "SELECT * FROM v_metrics", "--format", "csv"],
        vec!["query", "SELECT * FROM v_metrics"],
        vec!["query", "--schema"],
        vec!["status"],
        vec!["status", "--format", "json"],
        vec!["show", "loss/l0/s0"],
        vec!["show", "loss/l0/s0", "--format", "json"],
        vec!["logs", "loss/l0/s0"],
    ] {
        let program =
            Program::try_parse_from(std::iter::once("ablate").chain(words.clone())).unwrap();
        match &program.command {
            Command::Query(args) => query::run(args, folder.path(), &mut Closed, &mut err).await,
            Command::Status(args) => status::run(args, folder.path(), &mut Closed, &mut err).await,
            Command::Show(args) => show::run(args, folder.path(), &mut Closed, &mut err).await,
            Command::Logs(args) => logs::run(args, folder.path(), &mut Closed, &mut err).await,
        }
        .unwrap_or_else(|error| panic!("{words:?}: {error}"));
    }
}

#[tokio::test]
async fn status_counts_runs_and_shows_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (store, sample) = sample(folder.path()).await;
    let text = ablate(folder.path(), &["status"]).await.unwrap();
    let words: Vec<&str> = text
        .lines()
        .find(|line| line.contains("loss "))
        .unwrap()
        .split_whitespace()
        .collect();
    assert_eq!(
        words[..7],
        ["loss", "quick", "3", "1", "1", "0", "1"],
        "{text}"
    );
    assert!(
        text.contains("loss/l1/s0") && text.contains("cpu on bench") && text.contains("0/100"),
        "{text}"
    );
    assert!(text.contains("No `ablate run` is at work"), "{text}");
    let lock = crate::store::StoreLock::exclusive(folder.path()).unwrap();
    assert!(
        !ablate(folder.path(), &["status"])
            .await
            .unwrap()
            .contains("No `ablate run`")
    );
    let json: serde_json::Value = serde_json::from_str(
        &ablate(folder.path(), &["status", "loss", "--format", "json"])
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(json["experiments"][0]["done"], 1);
    assert_eq!(json["running"][0]["fingerprint"], sample.fingerprint(2));
    assert_eq!(json["scheduler"]["pid"], std::process::id());
    drop(lock);
    let error = ablate(folder.path(), &["status", "lose"])
        .await
        .unwrap_err();
    assert_eq!(error, "there is no experiment `lose`; did you mean `loss`?");
    store
        .end_attempt(&sample.fingerprint(2), 1, &end(Status::Failed))
        .await
        .unwrap();
    assert!(
        !ablate(folder.path(), &["status"])
            .await
            .unwrap()
            .contains("heard of")
    );
}

#[tokio::test]
async fn show_tells_all_of_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let (_store, sample) = sample(folder.path()).await;
    let text = ablate(folder.path(), &["show", "loss/l0/s0"])
        .await
        .unwrap();
    for part in [
        "run      loss/l0/s0\nstatus   done\n",
        "axis     loss.name: l0\n",
        "seed     0\n",
        "time     9 s\n",
        "  result   val at 48 px  top1 57.2500 %\n",
        "  attempt  1 done after ",
        "  warning  attempt 1: slow disk\n",
        "    optimizer.lr = 0.003\n",
        "  configuration as above, except\n",
        "  needed by loss/l1/s0 and 1 more\n",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert_eq!(
        ablate(folder.path(), &["show", "loss/l0"]).await.unwrap(),
        text,
        "a unique beginning"
    );
    let json: serde_json::Value = serde_json::from_str(
        &ablate(folder.path(), &["show", "loss/l0/s0", "--format", "json"])
            .await
            .unwrap(),
    )
    .unwrap();
    assert_eq!(json["labels"]["loss.name"], "l0");
    assert_eq!(json["stages"][1]["results"][1]["value"], 57.25);
    assert_eq!(
        json["stages"][0]["config"]["recipe"]["optimizer"]["lr"],
        0.003
    );
    let stage = ablate(folder.path(), &["show", &sample.fingerprint(0)[..8]])
        .await
        .unwrap();
    assert!(
        stage.starts_with(&format!("stage    {}  done\n", sample.fingerprint(0))),
        "{stage}"
    );

    let error = ablate(folder.path(), &["show", "loss/l9/s0"])
        .await
        .unwrap_err();
    assert!(
        error.starts_with("there is no run `loss/l9/s0`; did you mean `loss/l"),
        "{error}"
    );
    let error = ablate(folder.path(), &["show", "loss"]).await.unwrap_err();
    assert_eq!(
        error,
        "`loss` stands for 3 runs: loss/l0/s0, loss/l1/s0, loss/l2/s0"
    );
}

#[tokio::test]
async fn logs_are_printed_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (store, sample) = sample(folder.path()).await;
    let bytes = b"first\r\n\x1b[1mbold\xff\x00 no end";
    for (index, content) in [(0, &b"shared"[..]), (1, &bytes[..])] {
        let dir = RunDir::in_store(folder.path(), &sample.fingerprint(index));
        std::fs::create_dir_all(dir.root()).unwrap();
        std::fs::write(dir.attempt_log(1), content).unwrap();
    }
    let args = |words: &[&str]| {
        let line = ["ablate", "logs"].iter().chain(words);
        match Program::try_parse_from(line).unwrap().command {
            Command::Logs(args) => args,
            _ => unreachable!("the command is logs"),
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    logs::run(&args(&["loss/l0/s0"]), folder.path(), &mut out, &mut err)
        .await
        .unwrap();
    assert_eq!(out, bytes);
    let stage = ablate(
        folder.path(),
        &["logs", "loss/l0/s0", "--stage", "pretrain"],
    )
    .await
    .unwrap();
    assert_eq!(stage, "shared");
    let error = ablate(
        folder.path(),
        &["logs", "loss/l0/s0", "--stage", "pretrian"],
    )
    .await
    .unwrap_err();
    assert_eq!(
        error,
        "there is no stage `pretrian`; did you mean `pretrain`?"
    );
    let error = ablate(folder.path(), &["logs", "loss/l0/s0", "--attempt", "7"])
        .await
        .unwrap_err();
    assert_eq!(error, "there is no attempt 7: there were 1");
    let error = ablate(folder.path(), &["logs", "loss/l1/s0"])
        .await
        .unwrap_err();
    assert!(
        error.starts_with("can't read ") && error.contains("attempt-1.log"),
        "{error}"
    );

    // Following ends with the attempt, and misses nothing that was written before.
    let running = RunDir::in_store(folder.path(), &sample.fingerprint(2));
    std::fs::create_dir_all(running.root()).unwrap();
    std::fs::write(running.attempt_log(1), "one\n").unwrap();
    let path = running.attempt_log(1);
    let fingerprint = sample.fingerprint(2);
    let writer = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        std::fs::OpenOptions::new()
            .append(true)
            .open(path)
            .unwrap()
            .write_all(b"two\n")
            .unwrap();
        store
            .end_attempt(&fingerprint, 1, &end(Status::Done))
            .await
            .unwrap();
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = args(&["loss/l1/s0", "--follow"]);
    let (result, ()) = tokio::join!(logs::run(&args, folder.path(), &mut out, &mut err), writer);
    result.unwrap();
    assert_eq!(String::from_utf8(out).unwrap(), "one\ntwo\n");
}

#[test]
fn durations_are_for_people() {
    let shown = [0.4, 59.0, 185.0, 7620.0, 273_600.0, -3.0].map(duration);
    assert_eq!(
        shown,
        ["0 s", "59 s", "3 min 05 s", "2 h 07 min", "3 d 04 h", "0 s"]
    );
}
