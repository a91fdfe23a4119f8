//! Sends batch after batch, and the same batch again as long as that may help.
//!
//! A receiver that is down, slow or overloaded is asked again, after the time that it names or else after 1, 2, 4 … up to 60 seconds,
//! with chance in it so that replicas do not come at once. Meanwhile records fill the outbox, and what finds no room there is dropped.
//! What the receiver refuses for good is not sent again. A reload that names another receiver, or other headers or authorities, is followed
//! at once, in the middle of a request and of a pause too.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::answer::Answer;
use super::environment::{Environment, SettingsError};
use super::message::{Resource, encode};
use super::outbox::{Batch, Outbox};
use super::receiver::Receiver;
use super::send::{Connection, send};
use crate::config::{Config, Otlp};
use crate::outbound::dial::OwnAddresses;
use crate::outbound::resolve::Resolver;
use crate::telemetry::record::new_id;
use crate::transport::held::{HeldBytes, Kind};
use crate::transport::tls::authorities::Roots;

/// Times of the exporter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pace {
    /// How long the first record of a batch waits for others.
    pub linger: Duration,
    /// The first pause after a failure.
    pub first: Duration,
    /// The longest pause that the receiver did not ask for.
    pub longest: Duration,
    /// The longest pause while the program waits to exit.
    pub last: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            linger: Duration::from_secs(1),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            last: Duration::from_millis(200),
        }
    }
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Arc<Config>,
    /// Looks names up.
    pub resolver: Arc<Resolver>,
}

/// Sends what is in the outbox. Made before anything is served, so that wrong settings are told at the start.
pub struct Exporter {
    outbox: Outbox,
    environment: Environment,
    resource: Resource,
    held: Arc<HeldBytes>,
    pace: Pace,
    made: (Otlp, Roots),
    receiver: Receiver,
}

/// A running exporter.
#[must_use = "without `finish` the last records are not waited for"]
pub struct Exporting {
    outbox: Outbox,
    task: JoinHandle<()>,
}

impl Exporter {
    /// For `config`, which has `access_log.otlp`.
    ///
    /// # Errors
    /// What is wrong with the settings, the environment's above all.
    pub fn new(
        config: &Config,
        environment: Environment,
        resource: Resource,
        held: Arc<HeldBytes>,
        pace: Pace,
    ) -> Result<Option<Self>, SettingsError> {
        let Some(otlp) = &config.access_log.otlp else { return Ok(None) };
        let roots = config.certificates.roots.clone();
        let receiver = Receiver::new(otlp, &roots, &environment)?;
        let outbox = Outbox::new(Arc::clone(&held), held.limit());
        let made = (otlp.clone(), roots);
        Ok(Some(Exporter { outbox, environment, resource, held, pace, made, receiver }))
    }

    /// Where records go in.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Sends from now on. `own` are egressd's own listeners, which are never dialled.
    pub fn start(
        self,
        own: OwnAddresses,
        in_force: impl Fn() -> InForce + Send + Sync + 'static,
    ) -> Exporting {
        tracing::info!("access log records are copied to {}", self.receiver);
        let outbox = self.outbox.clone();
        Exporting { outbox, task: tokio::spawn(run(self, own, in_force)) }
    }

    /// Whether `config` says something else than the receiver is made of. That there is one needs a restart.
    fn differs(&self, config: &Config) -> bool {
        let Some(otlp) = &config.access_log.otlp else { return false };
        (otlp, &config.certificates.roots) != (&self.made.0, &self.made.1)
    }

    /// Until a reload says something else.
    async fn changed(&self, in_force: &impl Fn() -> InForce) {
        loop {
            self.outbox.reloaded().await;
            if self.differs(&in_force().config) {
                return;
            }
        }
    }

    /// Follows a reload; returns whether it said something else. A receiver that cannot be set up leaves the one before.
    fn follow(&mut self, config: &Config) -> bool {
        let Some(otlp) = config.access_log.otlp.as_ref().filter(|_| self.differs(config)) else {
            return false;
        };
        self.made = (otlp.clone(), config.certificates.roots.clone());
        match Receiver::new(otlp, &self.made.1, &self.environment) {
            Ok(receiver) => {
                tracing::info!("access log records are copied to {receiver} from now on");
                self.receiver = receiver;
            }
            Err(error) => tracing::error!("access log records still go to {}: {error}", self.receiver),
        }
        true
    }
}

impl Exporting {
    /// Sends what is left, for at most `timeout`. What cannot be sent is lost, and counted.
    pub async fn finish(self, timeout: Duration) -> u64 {
        let Exporting { outbox, mut task } = self;
        let before = outbox.counts().lost;
        outbox.close();
        if tokio::time::timeout(timeout, &mut task).await.is_err() {
            task.abort();
            // Its batch is dropped with it, and counted.
            let _ = task.await;
        }
        outbox.abandon();
        outbox.counts().lost - before
    }
}

async fn run(mut exporter: Exporter, own: OwnAddresses, in_force: impl Fn() -> InForce) {
    let mut kept: Option<Connection> = None;
    let mut works = true;
    while let Some(batch) = exporter.outbox.next(exporter.pace.linger).await {
        Box::pin(deliver(&mut exporter, batch, &mut kept, &mut works, &own, &in_force)).await;
    }
}

/// A body that is held.
struct Body {
    bytes: Bytes,
    gzip: bool,
    held: Arc<HeldBytes>,
}

impl Body {
    /// Encodes the batch where no request waits for it: that takes milliseconds.
    async fn of(exporter: &Exporter, batch: &Batch) -> Self {
        let (lines, resource) = (Arc::clone(&batch.lines), exporter.resource.clone());
        let gzip = exporter.receiver.gzip;
        let encoded = tokio::task::spawn_blocking(move || encode(&lines, &resource, gzip)).await;
        // A panic is reported where it happens; the receiver answers an empty body with an error.
        let bytes = Bytes::from(encoded.unwrap_or_default());
        exporter.held.charge(Kind::Otlp, bytes.len());
        Body { bytes, gzip, held: Arc::clone(&exporter.held) }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.held.give_back(Kind::Otlp, self.bytes.len());
    }
}

async fn deliver(
    exporter: &mut Exporter,
    batch: Batch,
    kept: &mut Option<Connection>,
    works: &mut bool,
    own: &OwnAddresses,
    in_force: &impl Fn() -> InForce,
) {
    let mut pause = exporter.pace.first;
    let mut body = Body::of(exporter, &batch).await;
    loop {
        let InForce { config, resolver } = in_force();
        if exporter.follow(&config) {
            (*kept, pause) = (None, exporter.pace.first);
        }
        if body.gzip != exporter.receiver.gzip {
            body = Body::of(exporter, &batch).await;
        }
        let receiver = &exporter.receiver;
        let sent = Box::pin(send(kept, receiver, &resolver, own, body.bytes.clone()));
        let sent = tokio::select! {
            sent = timeout(receiver.timeout, sent) => sent,
            // The new receiver gets it, whatever the old one makes of it.
            () = exporter.changed(in_force) => continue,
        };
        let (after, why) = match sent {
            Ok(Ok(Answer::Accepted { rejected, said })) => {
                if !*works {
                    tracing::info!("{receiver} takes access log records again");
                }
                *works = true;
                if let Some(said) = said {
                    tracing::warn!(
                        "{receiver} took all but {rejected} of {} records: {said}",
                        batch.lines.len()
                    );
                }
                batch.exported(rejected);
                return;
            }
            Ok(Ok(Answer::Refused(why))) => {
                if *works {
                    tracing::error!("{receiver} refuses access log records: {why}");
                }
                *works = false;
                batch.rejected();
                return;
            }
            Ok(Ok(Answer::Later { after, why })) => (after, why),
            Ok(Err(why)) => (None, why),
            Err(_elapsed) => {
                *kept = None;
                (None, format!("no answer within {} ms", receiver.timeout.as_millis()))
            }
        };
        if *works {
            tracing::warn!(
                "{receiver} does not take access log records, which are kept as far as there is room: {why}"
            );
        }
        *works = false;
        let wait = after.unwrap_or_else(|| by_chance(pause));
        pause = (pause * 2).min(exporter.pace.longest);
        tokio::select! {
            () = wait_or_close(exporter, wait) => {}
            () = exporter.changed(in_force) => {}
        }
    }
}

/// From a half to the whole of it.
fn by_chance(pause: Duration) -> Duration {
    // The last bits of an id are random.
    let chance = (new_id().as_u128() % 1000) as u32;
    pause / 2 + pause / 2000 * chance
}

/// While the program waits to exit, no receiver can make it wait long between two tries.
async fn wait_or_close(exporter: &Exporter, wait: Duration) {
    let Exporter { outbox, pace, .. } = exporter;
    if !outbox.is_closed() {
        let _ = timeout(wait, outbox.closed()).await;
    }
    if outbox.is_closed() {
        sleep(wait.min(pace.last)).await;
    }
}

impl std::fmt::Debug for Exporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Exporting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporting").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}
