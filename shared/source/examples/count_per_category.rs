//! A materialized count per category: how many products there are of each, bootstrapped from the table and kept as it changes.
//!
//! `cargo run -p highwater-source --example count_per_category` runs it against an embedded DynamoDB; nothing else is needed.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::sync::{Mutex, PoisonError};

use highwater_source::{Applied, Change, FnSink, Ports, Record, SinkError, builder};
use serde::Deserialize;

#[path = "shared/shop.rs"]
mod shop;

/// All that this pipeline wants of an item.
#[derive(Clone, Deserialize)]
struct Product {
    category: String,
}

/// Counts that a product that comes twice does not spoil: what each product was last counted as is remembered.
#[derive(Default)]
struct Counts {
    per_category: BTreeMap<String, u64>,
    counted_as: HashMap<String, String>,
}

impl Counts {
    fn apply(&mut self, record: &Record<Change<Product>>) {
        let now = record
            .value
            .current()
            .map(|product| product.category.clone());
        let before = match &now {
            Some(category) => self.counted_as.insert(record.key(), category.clone()),
            None => self.counted_as.remove(&record.key()),
        };
        if let Some(count) = before.and_then(|before| self.per_category.get_mut(&before)) {
            *count = count.saturating_sub(1);
        }
        if let Some(category) = now {
            *self.per_category.entry(category).or_default() += 1;
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let shop = shop::open().await?;
    for n in 0..300 {
        let category = ["books", "games", "tools"][n % 3];
        shop.put(&format!("p{n}"), category, "thing").await?;
    }

    let counts = Mutex::new(Counts::default());
    let sink = FnSink::new(move |record: &Record<Change<Product>>| {
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.apply(record);
        shop::say(&format!("{:?}", counts.per_category));
        Ok::<_, SinkError>(Applied::Done)
    });
    let bootstrap = builder::<Product>()
        .table(shop::TABLE)
        .ports(Ports::of(&shop.clients, shop::CONTROL))
        .segments(4)
        .until_idle()
        .on_local_engine()
        .bootstrap(sink)?;

    let snapshot = bootstrap.run_snapshot().await?;
    shop::say(&format!("the snapshot had {} products", snapshot.applied));

    // The table changes: a product moves to another category, one is new, one is gone.
    shop.put("p0", "games", "thing").await?;
    shop.put("p300", "books", "thing").await?;
    shop.delete("p1").await?;
    let report = bootstrap.run().await?;
    shop::say(&format!(
        "{} changes since then",
        report.live.counts.applied
    ));
    Ok(())
}
