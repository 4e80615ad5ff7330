//! `arbstr serve`: from a config to a listening proxy, and from a signal to the last flushed record.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arbstr_store::{Options as StoreOptions, Store};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::app::{App, Live};
use crate::cli::{Failure, Serve};
use crate::config::reload::{ConfigWatcher, Trigger};
use crate::config::{self, Config, LoadError, Source};
use crate::learned_state::LearnedState;
use crate::log::Log;
use crate::trace::Tracer;
use crate::{clock, database, discover, mock, open_files, server};

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// A bad config, an address that cannot be bound, a database from a newer arbstr.
pub(crate) fn run(options: &Serve) -> Result<(), Failure> {
    let _log = Log::start(options.log_format);
    open_files::raise_limit();
    // For signals, reloads and discovery; clients are accepted and served by threads of their own.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(serve(options));
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn serve(options: &Serve) -> Result<(), Failure> {
    let (config, watcher) = if options.mock {
        mock_config(options)?
    } else {
        file_config(options)?
    };
    let stop = stop_signals()
        .map_err(|error| Failure::Failed(format!("cannot listen for signals: {error}")))?;
    let listener = bind(&config)?;
    let address = listener
        .local_addr()
        .map_err(|error| Failure::Failed(format!("cannot tell the address: {error}")))?;
    if let Some(obstacle) = database::obstacle(&config.database.path) {
        tracing::error!(
            "database.path: {obstacle}; requests are served, but their records are not written until this is mended"
        );
    }
    let store = open_store(config.database.path.clone()).await?;
    let config_shown = config.clone();
    let live = Live::from_config(config, None).map_err(Failure::BadConfig)?;
    let memory = LearnedState::of(options.mock);
    memory.recall(&live, &store).await;
    announce(&config_shown, address, options.mock);
    let (tracer, exporting) = Tracer::start(&config_shown.telemetry).unzip();
    let app = App::new(live, store.clone(), address, clock::unix_ms());
    let app = Arc::new(app.traced(tracer));
    app.metrics.config_read(true, clock::unix_ms());
    if let Some(watcher) = watcher {
        let reload = Reload {
            app: Arc::clone(&app),
            file: watcher.file().to_owned(),
            options: options.options(),
            started: config_shown,
        };
        tokio::spawn(reload.on_change(watcher));
    }
    tokio::spawn(discover::run(Arc::clone(&app)));
    tokio::spawn(expire_records(Arc::clone(&app)));
    tokio::spawn(memory.clone().keep(Arc::clone(&app)));
    server::run(Arc::clone(&app), listener, stop)
        .await
        .map_err(|error| Failure::Failed(format!("cannot start the serving threads: {error}")))?;
    memory.save(&app);
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
    close(store).await
}

fn file_config(options: &Serve) -> Result<(Config, Option<ConfigWatcher>), Failure> {
    let file = config::locate(options.config.as_deref(), &env, &|path: &Path| {
        path.exists()
    })
    .map_err(|error| Failure::BadConfig(error.to_string()))?;
    let watcher = ConfigWatcher::begin(file);
    let config = config::load(watcher.file(), &env, &options.options())
        .map_err(|error| Failure::BadConfig(error.to_string()))?;
    Ok((config, Some(watcher)))
}

/// With `--mock` a file is read only when it is named, and its providers give way to the built-in ones.
fn mock_config(options: &Serve) -> Result<(Config, Option<ConfigWatcher>), Failure> {
    let text = mock::start()
        .map_err(|error| Failure::Failed(format!("cannot start mock providers: {error}")))?;
    let source = Source {
        file: Path::new("mock"),
        text: &text,
        mode: None,
    };
    let mut built_in = config::read(&source, &env, &options.options())
        .map_err(|error| Failure::BadConfig(error.to_string()))?;
    let Some(file) = &options.config else {
        return Ok((built_in, None));
    };
    let mut config = config::load(file, &env, &options.options())
        .map_err(|error| Failure::BadConfig(error.to_string()))?;
    config.providers = std::mem::take(&mut built_in.providers);
    Ok((config, None))
}

fn bind(config: &Config) -> Result<TcpListener, Failure> {
    let address = config.server.listen;
    let listener = server::listen(address).map_err(|error| {
        Failure::Failed(format!(
            "cannot listen on {address}: {error}; choose another with --listen ADDR"
        ))
    })?;
    // Accepted sockets inherit this. A client whose machine is gone sends nothing, not even a close.
    let keepalive = TcpKeepalive::new()
        .with_time(CLIENT_KEEPALIVE)
        .with_interval(CLIENT_KEEPALIVE / 4);
    if let Err(error) = SockRef::from(&listener).set_tcp_keepalive(&keepalive) {
        tracing::debug!(%error, "no TCP keep-alive towards clients");
    }
    Ok(listener)
}

async fn open_store(path: PathBuf) -> Result<Store, Failure> {
    let options = StoreOptions::new(path, clock::unix_ms());
    match tokio::task::spawn_blocking(move || Store::open(options)).await {
        Ok(Ok(store)) => Ok(store),
        Ok(Err(error)) => Err(Failure::Failed(error.to_string())),
        Err(error) => Err(Failure::Failed(format!(
            "opening the database was lost: {error}"
        ))),
    }
}

fn announce(config: &Config, address: std::net::SocketAddr, mock: bool) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    for provider in &config.providers {
        tracing::info!(name = %provider.name, url = %provider.url, key = %provider.key_source, models = provider.models_shown(), "provider");
    }
    tracing::info!(path = %config.database.path.display(), "database");
    if let Some(endpoint) = &config.telemetry.otlp_endpoint {
        tracing::info!(%endpoint, "traces");
    }
    tracing::info!(url = %format_args!("http://{address}/"), "dashboard");
    tracing::info!(
        "listening on http://{address}{}",
        if mock {
            " with built-in mock providers"
        } else {
            ""
        }
    );
}

/// Lets the store delete what is older than the config keeps, from time to time.
async fn expire_records(app: Arc<App>) {
    let mut look = tokio::time::interval(EXPIRE_EVERY);
    loop {
        look.tick().await;
        app.expire_records(clock::unix_ms());
    }
}

/// What taking a changed config over needs.
struct Reload {
    app: Arc<App>,
    file: PathBuf,
    options: config::Options,
    /// The config at the start, which the listener, the database and the traces still follow.
    started: Config,
}

impl Reload {
    async fn on_change(self, watcher: ConfigWatcher) {
        // Why it could not be read when that was last said.
        let mut unreadable = None;
        let on_change = |trigger| match trigger {
            Trigger::Signal => {
                unreadable = None;
                tokio::task::block_in_place(|| self.reload(&mut unreadable))
            }
            Trigger::File => tokio::task::block_in_place(|| self.reload(&mut unreadable)),
            Trigger::Gone => {
                let file = self.file.display();
                tracing::warn!(%file, "the config file is gone; what it said stays in force until the next start");
                true
            }
        };
        watcher.run(on_change).await;
    }

    /// Whether the file could be read, whatever it said.
    fn reload(&self, unreadable: &mut Option<String>) -> bool {
        let taken_over = self.take_over();
        let metrics = &self.app.metrics;
        metrics.config_read(taken_over.is_ok(), clock::unix_ms());
        match taken_over {
            Ok(changes) => {
                self.app.expire_records(clock::unix_ms());
                tracing::info!(applied = listed(&changes.applied), "config reloaded");
                for warning in changes.warnings {
                    tracing::warn!("{warning}");
                }
                if let Some(changes) = listed(&changes.needs_restart) {
                    tracing::warn!(changes, "these changes take effect at the next start");
                }
            }
            Err(NotTaken::Unreadable(error)) => {
                if unreadable.as_ref() != Some(&error) {
                    tracing::error!(
                        "the config was not reloaded, the old one stays in force until it can be read:\n{error}"
                    );
                    *unreadable = Some(error);
                }
                return false;
            }
            Err(NotTaken::Bad(error)) => {
                tracing::error!(
                    "the config was not reloaded, the old one stays in force:\n{error}"
                );
            }
        }
        *unreadable = None;
        true
    }

    /// Puts the config that stands in the file in force.
    fn take_over(&self) -> Result<config::reload::Changes, NotTaken> {
        let (app, options) = (&self.app, &self.options);
        // Of a pipe nobody knows when it has something to read.
        if std::fs::metadata(&self.file).is_ok_and(|file| !file.is_file()) {
            let file = self.file.display();
            return Err(NotTaken::Unreadable(format!("{file} is no regular file")));
        }
        let config = config::load(&self.file, &env, options).map_err(|error| match error {
            LoadError::Unreadable { .. } => NotTaken::Unreadable(error.to_string()),
            LoadError::Bad(problems) => NotTaken::Bad(problems.to_string()),
        })?;
        if config.server.auth_token.is_none() && !app.listens_on_loopback() && !options.allow_open {
            return Err(NotTaken::Bad(
                "without server.auth_token this address would be open to everybody".to_owned(),
            ));
        }
        let changes = config::reload::changes(&self.started, &app.live().config, &config);
        app.update(|old| Live::from_config(config, Some(old)))
            .map_err(NotTaken::Bad)?;
        Ok(changes)
    }
}

/// Why a changed config is not in force.
enum NotTaken {
    /// Its file could not be read, which may pass.
    Unreadable(String),
    /// What it says is wrong.
    Bad(String),
}

/// One text of all, if there are any.
fn listed(changes: &[String]) -> Option<String> {
    (!changes.is_empty()).then(|| changes.join("; "))
}

/// Tells of each SIGTERM and SIGINT. SIGHUP is taken too, so that it never ends a process that has nothing to reload.
fn stop_signals() -> std::io::Result<mpsc::Receiver<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (tell, told) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => continue,
            }
            if tell.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(told)
}

async fn close(store: Store) -> Result<(), Failure> {
    let left = tokio::task::spawn_blocking(move || store.close(CLOSE_TIME)).await;
    match left {
        Ok(left) if left.is_empty() => {
            tracing::info!("stopped; every record is written");
            Ok(())
        }
        Ok(left) if left.memory_only == 0 => {
            tracing::warn!(
                records = left.records,
                "stopped; some records are only in the journal, the next start applies them"
            );
            Ok(())
        }
        Ok(left) => Err(Failure::Failed(format!(
            "stopped; {} records could not be written anywhere",
            left.memory_only
        ))),
        Err(error) => Err(Failure::Failed(format!(
            "closing the database was lost: {error}"
        ))),
    }
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

const EXPIRE_EVERY: Duration = Duration::from_secs(3600);
/// Silence after which a client is asked whether it is still there.
const CLIENT_KEEPALIVE: Duration = Duration::from_secs(60);
const CLOSE_TIME: Duration = Duration::from_secs(10);
