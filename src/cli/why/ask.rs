//! Asking the schedulers that are at work: they know what a stage waits for.

use crate::cli::attach::is_here;
use crate::schedule::progress::hub::Reach;
use crate::schedule::progress::news::{Because, News, Request};
use crate::store::{Owner, StoreHolder};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long a scheduler may take to answer: it may stand still (Ctrl-Z), or wait for the database.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the schedulers at work on a store have said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answers {
    /// Those that answered, with what they know.
    pub told: Vec<(StoreHolder, Vec<Because>)>,
    /// Those that can't be asked, being on another host, or didn't answer.
    pub silent: Vec<StoreHolder>,
}

impl Answers {
    /// What is said of a stage, and by whom: by the one that has it rather than by one that says so.
    pub fn of(&self, fingerprint: &str) -> Option<(&StoreHolder, &Because)> {
        let all = self.told.iter().flat_map(|(holder, stages)| {
            let about = stages.iter().filter(|told| told.fingerprint == fingerprint);
            about.map(move |told| (holder, told))
        });
        all.min_by_key(|(_, told)| told.reason == "elsewhere")
    }
}

/// Asks all schedulers at work on the store at `dir` why these stages don't run.
pub async fn ask(dir: &Path, fingerprints: &[String]) -> Answers {
    let mut answers = Answers::default();
    for owner in Owner::at_work(dir) {
        let answer = async {
            match is_here(&owner, dir) {
                true => ask_one(&owner, dir, fingerprints).await.ok(),
                false => None,
            }
        };
        match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Some(stages)) => answers.told.push((owner.holder(), stages)),
            Ok(None) | Err(_) => answers.silent.push(owner.holder()),
        }
    }
    answers
}

async fn ask_one(
    owner: &Owner,
    dir: &Path,
    fingerprints: &[String],
) -> std::io::Result<Vec<Because>> {
    let reach = Reach::of(dir)?;
    let mut stream = UnixStream::connect(reach.address(&owner.id)).await?;
    let mut request = serde_json::to_vec(&Request::Why {
        fingerprints: fingerprints.to_vec(),
    })?;
    request.push(b'\n');
    stream.write_all(&request).await?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await? {
        // It tells all that happens; somebody else may have asked, too.
        if let Ok(News::Why { stages }) = serde_json::from_str(&line)
            && (stages.iter()).all(|told| fingerprints.contains(&told.fingerprint))
        {
            return Ok(stages);
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::progress::hub::Hub;
    use crate::schedule::progress::news::Began;
    use crate::store::OwnerLock;

    #[tokio::test]
    async fn whoever_is_at_work_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        assert_eq!(ask(dir, &["aa".to_owned()]).await, Answers::default());
        let me = OwnerLock::create(dir).unwrap();
        let hub = Hub::new(Began::default());
        let answering = hub.clone();
        let socket = hub
            .serve(dir, &me.owner().id, move |request| {
                let Request::Why { fingerprints } = request else {
                    panic!("{request:?}")
                };
                let about = |reason: &str, fingerprint: &String| Because {
                    fingerprint: fingerprint.clone(),
                    reason: reason.to_owned(),
                    because: vec!["so it is".to_owned()],
                };
                // First what somebody else has asked for.
                answering.why(vec![about("turn", &"cc".to_owned())]);
                answering.why(
                    fingerprints
                        .iter()
                        .map(|name| about("slots", name))
                        .collect(),
                );
            })
            .unwrap();
        let answers = ask(dir, &["aa".to_owned(), "bb".to_owned()]).await;
        assert!(answers.silent.is_empty(), "{answers:?}");
        let (holder, told) = answers.of("bb").unwrap();
        assert_eq!(holder.pid, std::process::id());
        assert_eq!(told.because, ["so it is"]);
        assert_eq!(answers.of("cc"), None);
        drop(socket);
        let gone = ask(dir, &["aa".to_owned()]).await;
        assert_eq!((gone.told.len(), gone.silent.len()), (0, 1));
    }
}
