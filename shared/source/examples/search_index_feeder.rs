//! Feeds a search index: every word of a title leads to its products, as the table is and as it changes.
//!
//! The index takes nothing twice: claims are kept beside it, each made after its effect. What the index refuses goes to a file of dead
//! letters, whole.
//!
//! `cargo run -p highwater-source --example search_index_feeder` runs it against an embedded DynamoDB; nothing else is needed.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use highwater_source::{
    Applied, Change, Claims, Deduplicated, MemoryCheckpoints, MemoryDeadLetters, NoMetrics, Ports,
    Record, Sink, SinkError, builder,
};
use serde::Deserialize;

#[path = "shared/shop.rs"]
mod shop;

#[derive(Clone, Deserialize)]
struct Product {
    id: String,
    title: String,
}

/// A search index in memory: what stands here for a client of a real one.
#[derive(Clone, Default)]
struct Index(Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>);

impl Index {
    fn find(&self, word: &str) -> Vec<String> {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        words.get(word).into_iter().flatten().cloned().collect()
    }
}

#[async_trait]
impl Sink<Product> for Index {
    async fn apply(&self, record: &Record<Change<Product>>) -> Result<Applied, SinkError> {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = record.value.previous() {
            for products in words.values_mut() {
                products.remove(&old.id);
            }
        }
        if let Some(new) = record.value.current() {
            if new.title.is_empty() {
                return Err(SinkError::refused("a product without a title"));
            }
            for word in new.title.split_whitespace() {
                let products = words.entry(word.to_lowercase()).or_default();
                products.insert(new.id.clone());
            }
        }
        Ok(Applied::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let shop = shop::open().await?;
    shop.put("p1", "tools", "Steel hammer").await?;
    shop.put("p2", "tools", "Rubber hammer").await?;
    shop.put("p3", "tools", "").await?;

    let index = Index::default();
    let letters = Arc::new(MemoryDeadLetters::default());
    let claims = Claims::new(Arc::new(MemoryCheckpoints::new()));
    let sink = Deduplicated::new(index.clone(), claims, Arc::new(NoMetrics));
    let bootstrap = builder::<Product>()
        .table(shop::TABLE)
        .ports(Ports::of(&shop.clients, shop::CONTROL))
        .name("search-index-v1")
        .dead_letters(letters.clone())
        .until_idle()
        .on_local_engine()
        .bootstrap(sink)?;

    bootstrap.run().await?;
    shop::say(&format!("hammer: {:?}", index.find("hammer")));

    shop.put("p2", "tools", "Rubber mallet").await?;
    shop.delete("p1").await?;
    bootstrap.run().await?;
    let (hammer, mallet) = (index.find("hammer"), index.find("mallet"));
    shop::say(&format!("hammer: {hammer:?}, mallet: {mallet:?}"));
    for letter in letters.letters() {
        shop::say(&format!("not indexed: {}: {}", letter.key, letter.reason));
    }
    Ok(())
}
