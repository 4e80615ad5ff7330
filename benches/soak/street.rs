//! The five providers together, flapping until the end of the run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;

use crate::house::House;
use crate::schedule::{Calendar, Course};
use crate::script::PROVIDERS;

/// All providers.
#[derive(Debug)]
pub(crate) struct Street {
    houses: Vec<Arc<House>>,
}

impl Street {
    /// Opens all providers; they begin to flap at once.
    pub(crate) async fn open(seed: u64) -> Result<Self> {
        let calendar = Arc::new(Calendar::new(seed, PROVIDERS));
        let start = Instant::now();
        let mut houses = Vec::new();
        for index in 0..PROVIDERS {
            let (house, listener) = House::build(index, seed).await?;
            let course = Course::new(index, seed, Arc::clone(&calendar));
            let life = Arc::clone(&house).live(listener, course, start);
            tokio::spawn(async move {
                if let Err(error) = life.await {
                    eprintln!("provider {index} could not open again: {error}");
                    std::process::exit(2);
                }
            });
            houses.push(house);
        }
        Ok(Self { houses })
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.houses.iter().map(|house| house.address()).collect()
    }

    pub(crate) fn houses(&self) -> &[Arc<House>] {
        &self.houses
    }

    /// Whether no request is being answered.
    pub(crate) fn is_idle(&self) -> bool {
        self.houses.iter().all(|house| house.is_idle())
    }

    /// Closes all connections, as the end of a keep-alive does.
    pub(crate) fn hang_up(&self) {
        self.houses.iter().for_each(|house| house.hang_up());
    }
}
