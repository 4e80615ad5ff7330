//! Notices that the config file may have changed, and says in words what a new config changes.
//!
//! A change is noticed by SIGHUP at once, and by looking at the file every second: polling costs one `stat`, works on
//! every file system, and follows a file through renames and symbolic links, which is how editors and orchestrators
//! replace it. A file that is still being written is left alone until it has been the same for one look.

use std::fmt::{Debug, Display};
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;

use super::{Config, Model, Provider};

/// What a new config changes. No secret in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// In force from now on.
    pub(crate) applied: Vec<String>,
    /// In force only after a restart.
    pub(crate) needs_restart: Vec<String>,
    /// What the operator should know that was not so before.
    pub(crate) warnings: Vec<String>,
}

/// Why the file should be read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// SIGHUP.
    Signal,
    /// The file is another one than before.
    File,
    /// The file is no longer there, and what it said stays in force.
    Gone,
}

/// What differs between the config in force and a new one. What takes a restart still stands as `started` has it, the
/// config that the process began with.
pub(crate) fn changes(started: &Config, old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let listen = (started.server.listen, new.server.listen);
    note(
        &mut changes.needs_restart,
        "server.listen",
        &listen.0,
        &listen.1,
    );
    let path = (&started.database.path, &new.database.path);
    note_debug(&mut changes.needs_restart, "database.path", path.0, path.1);
    if started.telemetry != new.telemetry {
        changes.needs_restart.push("[telemetry] changed".to_owned());
    }
    let applied = &mut changes.applied;
    note_server(applied, old, new);
    let days = |config: &Config| {
        let retention = config.database.retention.unwrap_or_default();
        retention.as_secs() / 86_400
    };
    note(applied, "database.retention_days", &days(old), &days(new));
    let sections = [
        ("stream", old.stream == new.stream),
        ("timeouts", old.timeouts == new.timeouts),
        ("retry", old.retry == new.retry),
        ("circuit", old.circuit == new.circuit),
        ("prices", old.prices == new.prices),
        ("models", old.virtual_models == new.virtual_models),
        ("policies", old.policies == new.policies),
    ];
    let changed = sections.iter().filter(|(_, same)| !same);
    applied.extend(changed.map(|(name, _)| format!("[{name}] changed")));
    note_providers(applied, &old.providers, &new.providers);
    let is_new = |warning: &&String| !old.warnings.contains(warning);
    changes.warnings = new.warnings.iter().filter(is_new).cloned().collect();
    changes
}

/// Watches a config file and SIGHUP.
#[derive(Debug)]
pub(crate) struct ConfigWatcher {
    file: PathBuf,
    hangup: Option<Signal>,
    watched: Watched,
}

impl ConfigWatcher {
    /// Begins to watch over `file`. To be called before it is read: what comes after that is then not missed.
    pub(crate) fn begin(file: PathBuf) -> Self {
        let hangup = signal(SignalKind::hangup())
            .inspect_err(|error| tracing::warn!(%error, "SIGHUP will not reload the config"));
        Self {
            watched: Watched::new(Fingerprint::of(std::fs::metadata(&file))),
            hangup: hangup.ok(),
            file,
        }
    }

    /// Which file.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// Calls `on_change` whenever the file should be read again, and at each further look while it says that it could not be
    /// read. Runs until it is dropped.
    pub(crate) async fn run(mut self, mut on_change: impl FnMut(Trigger) -> bool) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let signalled = async {
                match &mut self.hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let trigger = tokio::select! {
                _ = signalled => {
                    self.watched = Watched::new(fingerprint(&self.file).await);
                    Some(Trigger::Signal)
                }
                _ = look.tick() => self.watched.on_look(fingerprint(&self.file).await),
            };
            if let Some(trigger) = trigger
                && !on_change(trigger)
            {
                self.watched.read = None;
            }
        }
    }
}

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// When its owner or permissions changed, too.
    changed: (i64, i64),
}

/// What was last read, and what was last seen.
#[derive(Debug)]
struct Watched {
    read: Option<Fingerprint>,
    seen: Option<Fingerprint>,
    /// Looks in a row that found no file.
    missed: u32,
}

impl Watched {
    fn new(read: Option<Fingerprint>) -> Self {
        Self {
            read,
            seen: read,
            missed: 0,
        }
    }

    /// Takes in what the file looks like now; it is another one when it changed and then stayed the same for one look.
    ///
    /// A missing file is probably being replaced; only one that stays away is gone, which is told once.
    fn on_look(&mut self, now: Option<Fingerprint>) -> Option<Trigger> {
        let settled = now.is_some() && now == self.seen && now != self.read;
        self.seen = now;
        if now.is_none() {
            self.missed = self.missed.saturating_add(1);
            return (self.missed == LOOKS_UNTIL_GONE).then_some(Trigger::Gone);
        }
        self.missed = 0;
        if settled {
            self.read = now;
        }
        settled.then_some(Trigger::File)
    }
}

impl Fingerprint {
    fn of(looked: io::Result<Metadata>) -> Option<Self> {
        let metadata = looked.ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

async fn fingerprint(file: &Path) -> Option<Fingerprint> {
    Fingerprint::of(tokio::fs::metadata(file).await)
}

fn note_server(applied: &mut Vec<String>, old: &Config, new: &Config) {
    let (old, new) = (&old.server, &new.server);
    note(
        applied,
        "server.max_body_bytes",
        &old.max_body_bytes,
        &new.max_body_bytes,
    );
    note_debug(
        applied,
        "server.cors_origins",
        &old.cors_origins,
        &new.cors_origins,
    );
    note_debug(
        applied,
        "server.shutdown_grace_secs",
        &old.shutdown_grace,
        &new.shutdown_grace,
    );
    match (&old.auth_token, &new.auth_token) {
        (Some(_), None) => applied.push("server.auth_token removed".to_owned()),
        (None, Some(_)) => applied.push("server.auth_token added".to_owned()),
        (Some(a), Some(b)) if a != b => applied.push("server.auth_token changed".to_owned()),
        _ => {}
    }
}

fn note_providers(applied: &mut Vec<String>, old: &[Provider], new: &[Provider]) {
    for provider in old {
        match new.iter().find(|other| other.name == provider.name) {
            None => applied.push(format!("provider {} removed", provider.name)),
            Some(other) => note_provider(applied, provider, other),
        }
    }
    let is_new = |provider: &&Provider| !old.iter().any(|other| other.name == provider.name);
    let added = new.iter().filter(is_new);
    applied.extend(added.map(|provider| format!("provider {} added", provider.name)));
}

fn note_provider(applied: &mut Vec<String>, old: &Provider, new: &Provider) {
    let parts = [
        ("url", old.url == new.url),
        ("api_key", old.api_key == new.api_key),
        ("tier", old.tier == new.tier),
        (
            "max_concurrency",
            old.max_concurrency == new.max_concurrency,
        ),
        ("headers", old.headers == new.headers),
        (
            "on_client_disconnect",
            old.on_client_disconnect == new.on_client_disconnect,
        ),
        ("requires_done", old.requires_done == new.requires_done),
        ("timeouts", old.timeouts == new.timeouts),
        ("models", names(&old.models).eq(names(&new.models))),
        (
            "prices",
            old.rates == new.rates && rates(&old.models).eq(rates(&new.models)),
        ),
        ("discovery", old.discover == new.discover),
    ];
    let changed: Vec<&str> = parts
        .iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| *name)
        .collect();
    if !changed.is_empty() {
        applied.push(format!(
            "provider {}: {} changed",
            old.name,
            changed.join(", ")
        ));
    }
}

fn names(models: &[Model]) -> impl Iterator<Item = (&str, &str)> {
    models
        .iter()
        .map(|model| (model.name.as_str(), model.upstream.as_str()))
}

fn rates(models: &[Model]) -> impl Iterator<Item = &Option<arbstr_price::Rates>> {
    models.iter().map(|model| &model.rates)
}

fn note<T: Display + PartialEq>(list: &mut Vec<String>, key: &str, old: &T, new: &T) {
    if old != new {
        list.push(format!("{key}: {old} -> {new}"));
    }
}

fn note_debug<T: Debug + PartialEq>(list: &mut Vec<String>, key: &str, old: &T, new: &T) {
    if old != new {
        list.push(format!("{key}: {old:?} -> {new:?}"));
    }
}

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Whoever replaces a file is done by then.
const LOOKS_UNTIL_GONE: u32 = 3;

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio::sync::mpsc;
    use tokio::time::timeout;

    use super::*;

    fn state(size: u64) -> Option<Fingerprint> {
        Some(Fingerprint {
            device: 1,
            inode: 1,
            size,
            modified: (0, 0),
            changed: (0, 0),
        })
    }

    #[test]
    fn a_change_counts_once_and_only_when_it_has_settled() {
        let (file, gone) = (Some(Trigger::File), Some(Trigger::Gone));
        let mut watched = Watched::new(state(1));
        for (now, told) in [
            (state(1), None),
            (state(2), None), // being written
            (state(3), None),
            (state(3), file),
            (state(3), None),
            (None, None), // being replaced
            (state(3), None),
            (state(3), None), // the same as before: nothing to read
            (None, None),
            (state(4), None),
            (state(4), file),
            (None, None),
            (None, None),
            (None, gone),
            (None, None), // told already
            (state(5), None),
            (state(5), file),
            (None, None),
            (None, None),
            (None, gone),
        ] {
            assert_eq!(watched.on_look(now), told, "{now:?}");
        }
    }

    #[test]
    fn a_file_that_appears_later_is_a_change() {
        let mut watched = Watched::new(None);
        let seen = [None, state(1), state(1), state(1)].map(|now| watched.on_look(now));
        assert_eq!(seen, [None, None, Some(Trigger::File), None]);
    }

    #[tokio::test]
    async fn notices_a_file_that_is_replaced_by_renaming() {
        let directory = std::env::temp_dir().join(format!("arbstr-watch-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join("a.toml");
        fs::write(&file, "one").unwrap();
        let (sender, mut triggers) = mpsc::unbounded_channel();
        let watcher = ConfigWatcher::begin(file.clone());
        let watching = tokio::spawn(watcher.run(move |trigger| {
            sender.send(trigger).unwrap();
            true
        }));
        fs::write(directory.join("new"), "two").unwrap();
        fs::rename(directory.join("new"), &file).unwrap();
        let noticed = timeout(Duration::from_secs(30), triggers.recv()).await;
        assert_eq!(noticed, Ok(Some(Trigger::File)));
        tokio::time::sleep(LOOK_EVERY * 2).await;
        watching.abort();
        assert!(triggers.try_recv().is_err(), "told once");
        fs::remove_dir_all(directory).unwrap();
    }
}
