//! An index over the embedded engine's stream records, which it does not make itself.
//!
//! For each write to a table with a stream the engine asks for the greatest sequence number there is, and for each read
//! of the stream for the records behind one. Without an index both look at every record, images and all, so that writes
//! cost more the more there were before. SQLite uses an index whoever made it, and keeps it up to date.

use std::path::Path;
use std::time::Duration;

use dynoxide::Database;
use rusqlite::Connection;

use crate::error::LocalError;

/// The order that the engine asks for, in its own words: SQLite compares expressions by how they are written.
const INDEX: &str = "CREATE INDEX IF NOT EXISTS highwater_stream_order \
                     ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

/// How long another process may hold the file.
const PATIENCE: Duration = Duration::from_secs(10);

/// Adds the index to a database file that the engine has made or opened.
pub(crate) fn add_to_file(path: &Path) -> Result<(), LocalError> {
    add(path).map_err(|error| failed(path, &error))
}

/// Adds the index to an empty database in memory, by way of a file: nobody else can reach its memory.
pub(crate) fn add_to_memory(database: &Database) -> Result<(), LocalError> {
    let memory = Path::new(":memory:");
    let folder = tempfile::tempdir().map_err(|error| failed(memory, &error))?;
    let path = folder.path().join("engine.db");
    let text = path
        .to_str()
        .ok_or_else(|| failed(&path, &"its name is not valid UTF-8"))?;
    let copied = database.vacuum_into(text);
    copied.map_err(|error| failed(&path, &error))?;
    add_to_file(&path)?;
    let restored = database.restore_from(text);
    restored.map_err(|error| failed(&path, &error))
}

fn add(path: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(PATIENCE)?;
    connection.execute_batch(INDEX)
}

fn failed(path: &Path, reason: &dyn std::fmt::Display) -> LocalError {
    LocalError::Database {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EmbeddedDynamoDb, StreamShape};

    /// As the engine asks, with its own words.
    const ASKED: [&str; 2] = [
        "SELECT COALESCE(MAX(CAST(sequence_number AS INTEGER)), 0) + 1 FROM _stream_records WHERE table_name = 't'",
        "SELECT event_name, keys_json, new_image FROM _stream_records \
         WHERE table_name = 't' AND shard_id = 's' AND CAST(sequence_number AS INTEGER) > 7 \
         ORDER BY CAST(sequence_number AS INTEGER) ASC LIMIT 1000",
    ];

    fn plan(path: &Path, question: &str) -> String {
        let connection = Connection::open(path).unwrap();
        let asked = format!("EXPLAIN QUERY PLAN {question}");
        let mut statement = connection.prepare(&asked).unwrap();
        let lines = statement.query_map([], |row| row.get::<_, String>(3));
        let lines: Vec<String> = lines.unwrap().map(Result::unwrap).collect();
        lines.join("; ")
    }

    fn check(path: &Path) {
        for question in ASKED {
            let plan = plan(path, question);
            assert!(plan.contains("SEARCH"), "{plan}");
            assert!(plan.contains("highwater_stream_order"), "{plan}");
            assert!(!plan.contains("TEMP B-TREE"), "{plan}");
        }
    }

    #[test]
    fn the_engines_questions_are_answered_by_the_index() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.db");
        let database = Database::new(path.to_str().unwrap()).unwrap();
        assert!(!plan(&path, ASKED[0]).contains("INDEX"), "not by itself");
        add_to_file(&path).unwrap();
        check(&path);
        add_to_file(&path).unwrap();
        drop(database);
        drop(Database::new(path.to_str().unwrap()).unwrap());
        check(&path);
    }

    #[tokio::test]
    async fn engines_with_streams_have_it_in_memory_and_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let [file, copy] = ["file.db", "copy.db"].map(|name| folder.path().join(name));
        let engine = EmbeddedDynamoDb::start_with(StreamShape::default());
        let engine = engine.await.unwrap();
        let copied = engine.database().vacuum_into(copy.to_str().unwrap());
        copied.unwrap();
        check(&copy);
        for _ in 0..2 {
            let engine = EmbeddedDynamoDb::open_with(&file, StreamShape::default());
            engine.await.unwrap().stop().await;
            check(&file);
        }
    }
}
