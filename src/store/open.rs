//! Opening a store: creation, migration, and the refusal of what can't be trusted.

use crate::store::connection::{journal_mode, read_options, readers, with_suffix, write_options};
use crate::store::patience::Patience;
use crate::store::{StoreError, StoreLock, network, records, reference};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteJournalMode, SqliteTransaction};
use sqlx::{ConnectOptions, Connection, Executor, Row, SqliteConnection, SqlitePool};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, MutexGuard};

/// `PRAGMA application_id` of a store, "ABLT".
pub(super) const APPLICATION_ID: i64 = 0x4142_4c54;

static MIGRATOR: Migrator = sqlx::migrate!("./migrations");

/// Databases up to this size are checked whole at every opening, larger ones only after a crash.
const CHECK_BYTES: u64 = 16 << 20;

/// A store: see the module. All methods may be called from several tasks; writes queue up.
#[derive(Debug)]
pub struct Store {
    pub(super) dir: PathBuf,
    pub(super) path: PathBuf,
    pub(super) readers: SqlitePool,
    writer: Option<Mutex<Writer>>,
    /// The disk failed under a write: nothing more is written through this handle.
    failed: AtomicBool,
    warnings: Vec<String>,
    /// Not on a network file system.
    has_wal: bool,
    /// The schema, if it is newer than what this program knows.
    newer: Option<i64>,
    pub(super) patience: &'static Patience,
}

#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) durability: Durability,
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// The disk.
    Full,
    /// Nothing; for what can be read again from event logs.
    Normal,
}

impl Store {
    /// Opens the store at `dir` as one of several schedulers. The first one there, alone for that moment,
    /// creates or migrates it; later ones join.
    pub async fn enter(dir: &Path) -> Result<(StoreLock, Store), StoreError> {
        match StoreLock::exclusive(dir) {
            Ok(lock) => {
                let store = Store::open(dir).await?;
                Ok((lock.share()?, store))
            }
            Err(StoreError::InUse { .. }) => {
                let lock = StoreLock::shared(dir)?;
                let store = Store::join(dir).await?;
                Ok((lock, store))
            }
            Err(error) => Err(error),
        }
    }

    /// Opens the store at `dir` to read and write, creating or migrating it. Take an
    /// [exclusive](StoreLock::exclusive) lock first. A database that is damaged, foreign, newer, or missing
    /// although there are stages, is refused and left as it is.
    pub async fn open(dir: &Path) -> Result<Store, StoreError> {
        Store::open_to_write(dir, true).await
    }

    /// Opens the store at `dir` to read and write beside others. Take a [shared](StoreLock::shared) lock
    /// first. It must be of this program's version.
    pub async fn join(dir: &Path) -> Result<Store, StoreError> {
        Store::open_to_write(dir, false).await
    }

    async fn open_to_write(dir: &Path, alone: bool) -> Result<Store, StoreError> {
        let path = dir.join("ablate.db");
        std::fs::create_dir_all(dir).map_err(StoreError::io("create the store's folder", dir))?;
        let known = newest_migration();
        let version = match inspect(dir, &path, alone).await? {
            Found::Nothing if !alone => {
                return Err(StoreError::Missing {
                    dir: dir.to_owned(),
                });
            }
            Found::Store { version } if version < known && !alone => {
                return Err(StoreError::Outdated {
                    path,
                    found: version,
                    known,
                });
            }
            Found::Nothing => None,
            Found::Store { version } if version > known => {
                return Err(StoreError::Newer {
                    path,
                    found: version,
                    known,
                });
            }
            Found::Store { version } => Some(version),
        };
        let sql = |error| StoreError::from_sqlx(&path, error);
        let options = write_options(&path).create_if_missing(true);
        let mut connection = options.connect().await.map_err(sql)?;
        let patience = Patience::of(&path);
        patience.attach(&mut connection).await.map_err(sql)?;
        if let Some(version) = version
            && version < known
        {
            back_up(&mut connection, &path, version).await?;
        }
        if alone {
            migrate(&mut connection, &path, version == Some(known)).await?;
            reference::load(&mut connection, &path).await?;
        }
        let store = Store {
            dir: dir.to_owned(),
            readers: readers(&path),
            writer: Some(Mutex::new(Writer {
                connection,
                durability: Durability::Full,
            })),
            failed: AtomicBool::new(false),
            warnings: network::warning(dir).into_iter().collect(),
            has_wal: journal_mode(&path) == SqliteJournalMode::Wal,
            newer: None,
            patience,
            path,
        };
        store.begin_records().await?;
        Ok(store)
    }

    /// Writes the first record of a store that has none: one that an older version has written, or whose
    /// records were removed.
    async fn begin_records(&self) -> Result<(), StoreError> {
        let missing = || records::list(&self.dir).map(|records| records.is_empty());
        let planned = "SELECT COUNT(*) > 0 FROM experiments";
        if !missing()?
            || !sqlx::query_scalar::<_, bool>(planned)
                .fetch_one(&self.readers)
                .await
                .map_err(self.sql())?
        {
            return Ok(());
        }
        let mut writer = self.writer(Durability::Full).await?;
        let mut transaction = self.begin(&mut writer).await?;
        if missing()? {
            self.record_everything(&mut transaction).await?;
        }
        self.commit(transaction).await
    }

    /// Tells `listener` of what a person should know while the store is in use: that it waits for another
    /// program, that the write-ahead log grows.
    pub fn on_notice(&self, listener: impl Fn(&str) + Send + Sync + 'static) {
        self.patience.listen(listener);
    }

    /// Writes don't wait for other programs any more: one that does fails at once.
    pub fn give_up(&self) {
        self.patience.give_up();
    }

    /// Later waits for it are patient again.
    pub fn wait_again(&self) {
        self.patience.wait_again();
    }

    /// Opens the store at `dir` to read; an error if there is none. Needs no lock and never waits for
    /// the process that writes. A store of a newer version is opened, with a warning.
    pub async fn open_read_only(dir: &Path) -> Result<Store, StoreError> {
        let path = dir.join("ablate.db");
        let mut warnings: Vec<String> = network::warning(dir).into_iter().collect();
        let mut newer = None;
        match inspect(dir, &path, false).await? {
            Found::Nothing => return Err(StoreError::Missing { dir: dir.to_owned() }),
            Found::Store { version } if version > newest_migration() => {
                newer = Some(version);
                warnings.push(format!(
                    "{} was written by a newer ablate (schema {version}, this program knows {}): some of it may not show",
                    path.display(),
                    newest_migration()
                ));
            }
            Found::Store { version } if version < newest_migration() => warnings.push(format!(
                "{} was written by an older ablate (schema {version}): the next `ablate run` updates it",
                path.display()
            )),
            Found::Store { .. } => {}
        }
        Ok(Store {
            dir: dir.to_owned(),
            readers: readers(&path),
            writer: None,
            failed: AtomicBool::new(false),
            warnings,
            has_wal: journal_mode(&path) == SqliteJournalMode::Wal,
            newer,
            patience: Patience::of(&path),
            path,
        })
    }

    /// Opens the store at `dir` to change something small beside schedulers that are at work; an error if there
    /// is none. The lock lasts as long as the change.
    pub async fn open_beside(dir: &Path) -> Result<(Store, StoreLock), StoreError> {
        let path = dir.join("ablate.db");
        let lock = match inspect(dir, &path, false).await? {
            Found::Nothing => {
                return Err(StoreError::Missing {
                    dir: dir.to_owned(),
                });
            }
            // It is migrated first.
            Found::Store { version } if version < newest_migration() => StoreLock::exclusive(dir)?,
            Found::Store { .. } => StoreLock::shared(dir)?,
        };
        Ok((Store::open(dir).await?, lock))
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What a person should know about this store: it lies on a network file system, it is of another
    /// version.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Bytes in the write-ahead log. It grows while another program keeps an old read transaction open.
    pub fn wal_bytes(&self) -> u64 {
        std::fs::metadata(with_suffix(&self.path, "-wal")).map_or(0, |metadata| metadata.len())
    }

    /// Closes the store: moves the write-ahead log into the database and waits for it. Without this the
    /// log is read at the next opening; nothing is lost.
    pub async fn close(self) -> Result<(), StoreError> {
        self.readers.close().await;
        match self.writer {
            Some(writer) => {
                let closed = writer.into_inner().connection.close().await;
                closed.map_err(|error| StoreError::from_sqlx(&self.path, error))
            }
            None => Ok(()),
        }
    }

    /// Classifies an error of the database.
    pub(super) fn sql(&self) -> impl Fn(sqlx::Error) -> StoreError + '_ {
        |error| match (StoreError::from_sqlx(&self.path, error), self.newer) {
            (StoreError::Database { path, source }, Some(found)) => StoreError::Incompatible {
                path,
                found,
                known: newest_migration(),
                source,
            },
            (error, _) => error,
        }
    }

    /// The one connection that writes, set to `durability`.
    pub(super) async fn writer(
        &self,
        durability: Durability,
    ) -> Result<MutexGuard<'_, Writer>, StoreError> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(StoreError::Disk {
                path: self.path.clone(),
                message: "an earlier write failed".to_owned(),
            });
        }
        let mut writer = self
            .writer
            .as_ref()
            .ok_or(StoreError::ReadOnly)?
            .lock()
            .await;
        if writer.connection.is_in_transaction() {
            self.revive(&mut writer).await?;
        }
        // With a rollback journal, a commit that doesn't wait for the disk may cost the whole database.
        let durability = match self.has_wal {
            true => durability,
            false => Durability::Full,
        };
        if writer.durability != durability {
            let pragma = match durability {
                Durability::Full => "PRAGMA synchronous = FULL",
                Durability::Normal => "PRAGMA synchronous = NORMAL",
            };
            (&mut writer.connection)
                .execute(pragma)
                .await
                .map_err(self.sql())?;
            writer.durability = durability;
        }
        Ok(writer)
    }

    /// Starts a transaction that may write from its first statement on.
    pub(super) async fn begin<'w>(
        &self,
        writer: &'w mut Writer,
    ) -> Result<SqliteTransaction<'w>, StoreError> {
        writer
            .connection
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(self.sql())
    }

    /// Commits. A failing disk is final for this handle.
    pub(super) async fn commit(
        &self,
        transaction: SqliteTransaction<'_>,
    ) -> Result<(), StoreError> {
        transaction.commit().await.map_err(|error| {
            let error = StoreError::from_sqlx(&self.path, error);
            if matches!(error, StoreError::Disk { .. }) {
                self.failed.store(true, Ordering::Relaxed);
            }
            error
        })?;
        self.patience.look_at_log(|| self.wal_bytes());
        Ok(())
    }
}

/// What lies where the database should be.
enum Found {
    /// Nothing, or what a creation that was interrupted left.
    Nothing,
    Store {
        version: i64,
    },
}

/// Looks at the database without changing it. `alone`: the caller holds the store's lock.
async fn inspect(dir: &Path, path: &Path, alone: bool) -> Result<Found, StoreError> {
    if alone || journal_mode(path) != SqliteJournalMode::Wal {
        super::reopen::roll_back(path).await?;
    }
    let length = match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Some(metadata.len()),
        Ok(_) => {
            return Err(StoreError::Foreign {
                path: path.to_owned(),
                what: "not a file".to_owned(),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => {
            return Err(StoreError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            });
        }
    };
    let nothing = |what: &str| match ["stages", "records"].map(|name| dir.join(name)) {
        // Starting empty would hide finished work.
        [stages, _] if has_entries(&stages) => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!(
                "{what}, but there are trained stages in {}",
                stages.display()
            ),
        }),
        [_, records] if has_entries(&records) => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!(
                "{what}, but there are records of it in {}",
                records.display()
            ),
        }),
        _ => Ok(Found::Nothing),
    };
    let Some(length) = length.filter(|&length| length > 0) else {
        return nothing(if length.is_none() {
            "it is missing"
        } else {
            "it is empty"
        });
    };
    let log_bytes = std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |wal| wal.len());
    // SQLite takes a file that ends within a page for one that is a page longer. While there is a log,
    // that is what a checkpoint that was interrupted leaves.
    if log_bytes == 0 && !length.is_multiple_of(page_size(path)?) {
        return Err(StoreError::Damaged {
            path: path.to_owned(),
            what: format!("it was cut off after {length} bytes"),
        });
    }
    let sql = |error| StoreError::from_sqlx(path, error);
    let mut connection = read_options(path).connect().await.map_err(sql)?;
    let row = sqlx::query(
        "SELECT (SELECT application_id FROM pragma_application_id),
                (SELECT COUNT(*) FROM sqlite_schema),
                (SELECT COUNT(*) FROM sqlite_schema WHERE name = '_sqlx_migrations')",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(sql)?;
    let (application, objects, migrated): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
    let version: i64 = match migrated {
        0 => 0,
        _ => sqlx::query_scalar(
            "SELECT COALESCE(MAX(version), 0) FROM _sqlx_migrations WHERE success",
        )
        .fetch_one(&mut connection)
        .await
        .map_err(sql)?,
    };
    if application != APPLICATION_ID {
        let creation = objects == migrated || (objects == 2 * migrated && version == 0);
        if application == 0 && version == 0 && creation {
            connection.close().await.map_err(sql)?;
            return nothing("it has no tables");
        }
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            what: "a database of another program".to_owned(),
        });
    }
    let unclean = log_bytes > 0 && (alone || StoreLock::holders(dir).is_empty());
    if length <= CHECK_BYTES || unclean {
        let problem: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut connection)
            .await
            .map_err(sql)?;
        if problem != "ok" {
            return Err(StoreError::Damaged {
                path: path.to_owned(),
                what: problem.replace('\n', " "),
            });
        }
    }
    connection.close().await.map_err(sql)?;
    match version {
        0 => Err(StoreError::Damaged {
            path: path.to_owned(),
            what: "it has no schema version".to_owned(),
        }),
        version => Ok(Found::Store { version }),
    }
}

/// The page size that the database's header names; 512, the smallest, if it names none.
fn page_size(path: &Path) -> Result<u64, StoreError> {
    use std::io::Read;
    let mut header = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(18).read_to_end(&mut header))
        .map_err(|source| StoreError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
    Ok(match header.get(16..18) {
        // 1 stands for 65536 (https://www.sqlite.org/fileformat.html#the_database_header).
        Some(&[0, 1]) => 65_536,
        Some(&[high, low]) => u64::from(u16::from_be_bytes([high, low])).max(512),
        _ => 512,
    })
}

fn has_entries(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

pub(super) fn newest_migration() -> i64 {
    MIGRATOR
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0)
}

/// Copies the database before a migration, beside it.
pub(super) async fn back_up(
    connection: &mut SqliteConnection,
    path: &Path,
    version: i64,
) -> Result<(), StoreError> {
    let copy = with_suffix(path, &format!(".schema-{version}"));
    if copy.exists() {
        // A migration was interrupted: the copy is of the same state.
        std::fs::remove_file(&copy).map_err(|source| StoreError::Io {
            action: "replace",
            path: copy.clone(),
            source,
        })?;
    }
    sqlx::query("VACUUM INTO ?")
        .bind(copy.to_string_lossy().into_owned())
        .execute(connection)
        .await
        .map_err(|error| StoreError::from_sqlx(path, error))?;
    Ok(())
}

/// Brings the schema up to date, all steps in one transaction: a store is of one version or the other.
async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    current: bool,
) -> Result<(), StoreError> {
    let sql = |error| StoreError::from_sqlx(path, error);
    let failed = |error| match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => sql(error),
        other => StoreError::Foreign {
            path: path.to_owned(),
            what: format!("its schema is of an unreleased version: {other}"),
        },
    };
    if current {
        return MIGRATOR
            .run_direct(None, connection, false)
            .await
            .map_err(failed);
    }
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(sql)?;
    MIGRATOR
        .run_direct(None, &mut *transaction, false)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(sql)
}
