//! The stage that serves metrics where the settings say, from what `cordon status` is answered. When nothing can be served the
//! agent goes on: a fault says so, and it is tried again.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::GROUP;
use crate::control::{Answer, Handler, Request};
use crate::health::{Fault, Health, Stage};
use crate::host::group_id;
use crate::report::metrics::{Endpoint, Listen, exposition};

/// How often it is asked where to serve.
const LOOK: Duration = Duration::from_secs(1);

/// The stage.
pub struct Metrics<H, L> {
    handler: Arc<H>,
    health: Health,
    wanted: L,
    /// Where it is served.
    current: Option<Listen>,
    serving: JoinSet<std::io::Result<()>>,
}

impl<H: Handler, L: Fn() -> Option<Listen> + Send> Metrics<H, L> {
    /// Nothing is served yet; `wanted` says where the settings want it.
    #[must_use]
    pub fn new(handler: Arc<H>, health: Health, wanted: L) -> Self {
        Self { handler, health, wanted, current: None, serving: JoinSet::new() }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// None; it is a stage like others.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut often = interval(LOOK);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            often.tick().await;
            self.follow().await;
            stage.tick();
        }
    }

    async fn follow(&mut self) {
        if self.serving.try_join_next().is_some() {
            self.current = None;
        }
        let wanted = (self.wanted)();
        if wanted == self.current {
            return;
        }
        // Only when it has ended is its place free.
        self.serving.shutdown().await;
        self.current = None;
        let Some(listen) = wanted else {
            self.health.clear_all(Fault::MetricsNotServed);
            return;
        };
        match Endpoint::bind(&listen, group_id(GROUP)).await {
            Ok(endpoint) => {
                self.health.clear_all(Fault::MetricsNotServed);
                tracing::info!(%listen, "metrics are served");
                let handler = Arc::clone(&self.handler);
                self.serving.spawn(endpoint.serve(move || metrics(Arc::clone(&handler))));
                self.current = Some(listen);
            }
            Err(error) => self.health.raise(Fault::MetricsNotServed, "", format!("{listen}: {error}")),
        }
    }
}

async fn metrics(handler: Arc<impl Handler>) -> Result<String, String> {
    match handler.handle(Request::Status).await {
        Answer::Done(status) => exposition(&status).map_err(|error| error.to_string()),
        Answer::Failed { message, .. } => Err(message),
    }
}
