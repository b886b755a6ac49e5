//! Data that nobody made up for a test: `fixtures/movies.json.gz`.

use std::io::Read as _;

use flate2::read::GzDecoder;
use highwater_domain::key::{KeyAttribute, KeySchema, ScalarType};
use highwater_testkit::generate::canonical;
use serde_json::{Map, Value, json};

use super::read_back::{Place, assert_same, id_of, table_items};
use super::stage::{Stage, TO};

const MOVIES: &[u8] = include_bytes!("../fixtures/movies.json.gz");
const TABLE: &str = "movies";

/// The films as items: `id` is their place in the file, null is NULL, numbers are N, text is S.
pub fn movies() -> Vec<Value> {
    let mut text = String::new();
    GzDecoder::new(MOVIES).read_to_string(&mut text).unwrap();
    let films: Vec<Map<String, Value>> = serde_json::from_str(&text).unwrap();
    let attribute = |value: &Value| match value {
        Value::Null => json!({"NULL": true}),
        Value::Number(number) => json!({"N": number.to_string()}),
        Value::String(text) => json!({"S": text}),
        other => panic!("no film has {other}"),
    };
    let item = |(id, film): (usize, &Map<String, Value>)| {
        let members = film
            .iter()
            .map(|(name, value)| (name.clone(), attribute(value)));
        let id = ("id".to_owned(), json!({"N": id.to_string()}));
        Value::Object(members.chain([id]).collect())
    };
    films.iter().enumerate().map(item).collect()
}

/// Their key.
pub fn schema() -> KeySchema {
    KeySchema {
        partition: KeyAttribute {
            name: "id".to_owned(),
            scalar_type: ScalarType::N,
        },
        sort: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_data_goes_there_and_comes_back() {
    let movies = movies();
    assert_eq!(movies.len(), 3201);
    let stage = Stage::start().await;
    let table = json!({
        "TableName": TABLE,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "N"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    stage.dynamodb.seed(table, movies.clone()).await.unwrap();

    let backup = [
        "backup",
        TABLE,
        "--to",
        TO,
        "--part-size",
        "20KiB",
        "--json",
    ];
    let result = stage.run(&backup).await.done().json();
    let id = id_of(&result);
    let listed = stage.run(&["list", TO]).await.done();
    assert!(listed.stdout.contains("3,201"), "{listed:#?}");
    let info = stage.run(&["info", id.as_str(), "--from", TO]).await.done();
    assert!(
        info.stdout.contains("Item Count ..........: 3201"),
        "{info:#?}"
    );

    let (items, metadata) = Place::bucket(&stage, "daily").read(TABLE, &id).await;
    assert!(metadata.part_count > 4, "{metadata:?}");
    let schema = schema();
    assert_same(&items, &table_items(&stage, TABLE, &schema).await);
    assert_eq!(items.len(), 3201);
    for movie in &movies {
        let movie = movie.to_string().into_bytes();
        let item = &items[&schema.key_of(&movie).unwrap()];
        assert_eq!(*item, canonical(&movie));
    }
}
