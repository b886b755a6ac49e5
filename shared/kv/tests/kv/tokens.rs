//! Page tokens are untrusted: whatever comes in, the answer is a page or `BadToken`.

use std::io::Write as _;

use proptest::prelude::*;

use crate::engine::*;

/// base58 of a gzip stream that is flushed but never closed.
pub fn as_dynastore_writes(json: &str) -> String {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writeln!(gzip, "{json}").unwrap();
    gzip.flush().unwrap();
    bs58::encode(gzip.get_ref()).into_string()
}

fn is_bad(text: &str) -> bool {
    matches!(text.parse::<PageToken>(), Err(Error::BadToken { .. }))
}

#[test]
fn texts_that_are_no_tokens_are_refused() {
    for text in [
        "",
        "0OIl",
        "not a token",
        "2",
        "\u{1f600}",
        &"z".repeat(1 << 20),
    ] {
        assert!(is_bad(text), "{text:.20}");
    }
    for json in [
        "",
        "null",
        "[]",
        "{}",
        "{",
        r#"{"id":"p"}"#,
        r#"{"id":{}}"#,
        r#"{"id":{"S":null}}"#,
        r#"{"id":{"S":1}}"#,
        r#"{"id":{"S":"p","N":"1"}}"#,
        r#"{"id":{"SS":["p"]}}"#,
        r#"{"id":{"BOOL":true}}"#,
        r#"{"id":{"B":"not base64"}}"#,
    ] {
        assert!(is_bad(&as_dynastore_writes(json)), "{json}");
    }
}

#[test]
fn a_small_token_that_unpacks_to_very_much_is_refused() {
    let bomb = format!(r#"{{"id":{{"S":"{}"}}}}"#, "a".repeat(8 << 20));
    let token = as_dynastore_writes(&bomb);
    assert!(is_bad(&token));
}

#[test]
fn damage_to_a_whole_token_is_noticed_or_leaves_a_key() {
    let token = as_dynastore_writes(r#"{"id":{"S":"p"},"name":{"S":"n"}}"#);
    assert!(token.parse::<PageToken>().is_ok());
    for end in 0..token.len() {
        // A cut may only ever be an error, or a key; never a panic.
        let _ = token[..end].parse::<PageToken>();
    }
    assert!(is_bad(&token[..token.len() / 2]));
}

proptest! {
    #[test]
    fn any_text_is_a_key_or_a_bad_token(text in "\\PC{0,200}") {
        match text.parse::<PageToken>() {
            Ok(_) | Err(Error::BadToken { .. }) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn any_packed_json_is_a_key_or_a_bad_token(json in r#"[{}\[\]":,SNB0-9a-z]{0,60}"#) {
        match as_dynastore_writes(&json).parse::<PageToken>() {
            Ok(_) | Err(Error::BadToken { .. }) => {}
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn any_key_survives_the_trip(id in ".{1,200}", number in "-?[0-9]{1,38}", bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::STANDARD.encode(bytes);
        let json = serde_json::json!({"id": {"S": id}, "n": {"N": number}, "b": {"B": bytes}});
        let token: PageToken = as_dynastore_writes(&json.to_string()).parse().unwrap();
        prop_assert_eq!(token.to_string().parse::<PageToken>().unwrap(), token);
    }
}

#[tokio::test]
async fn the_token_of_the_longest_key_is_not_too_long() {
    let (_engine, table) = fresh_table().await;
    let noise = |bytes: usize| -> String {
        std::iter::repeat_with(|| char::from(fastrand::u8(1..128)))
            .take(bytes)
            .collect()
    };
    let records = table.partition(noise(2048));
    for _ in 0..2 {
        records.put(&noise(1024), Write::new()).await.unwrap();
    }
    let list = List::new().limit(1);
    let page = records.list(&list).await.unwrap();
    let token = page.next.unwrap().to_string();
    let next = records
        .list(&list.token(token.parse().unwrap()))
        .await
        .unwrap();
    assert_eq!(next.records.len(), 1);
    assert_ne!(next.records, page.records);
}

#[tokio::test]
async fn a_token_of_another_list_is_refused() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    for name in ["a/1", "a/2", "b/1"] {
        records.put(name, Write::text(name)).await.unwrap();
    }
    let list = List::new().prefix("a/").limit(1);
    let token = records.list(&list).await.unwrap().next.unwrap();
    assert_eq!(
        records
            .list(&list.clone().token(token.clone()))
            .await
            .unwrap()
            .records[0]
            .name(),
        "a/2"
    );

    let refused = |result: Result<_, Error>| matches!(result, Err(Error::BadToken { .. }));
    let elsewhere = list.clone().token(token.clone());
    assert!(refused(table.partition("q").list(&elsewhere).await));
    assert!(refused(
        records
            .list(&List::new().prefix("b/").token(token.clone()))
            .await
    ));
    let by_index = List::new().index(Index::local("i", "created")).token(token);
    assert!(refused(records.list(&by_index).await));

    for json in [
        r#"{"id":{"S":"p"}}"#,
        r#"{"id":{"S":"p"},"name":{"N":"1"}}"#,
        r#"{"id":{"B":"cA=="},"name":{"S":"a/1"}}"#,
        r#"{"id":{"S":"p"},"name":{"S":"a/1"},"more":{"S":"x"}}"#,
        r#"{"id":{"S":"p"},"name":{"S":""}}"#,
    ] {
        let token = as_dynastore_writes(json).parse().unwrap();
        let result = records.list(&List::new().token(token)).await;
        assert!(refused(result), "{json}");
    }
}

#[test]
fn tokens_travel_as_strings_in_serde() {
    let token: PageToken = as_dynastore_writes(r#"{"id":{"S":"p"}}"#).parse().unwrap();
    let json = serde_json::to_string(&token).unwrap();
    assert_eq!(json, format!("\"{token}\""));
    assert_eq!(serde_json::from_str::<PageToken>(&json).unwrap(), token);
    assert!(serde_json::from_str::<PageToken>("\"nonsense\"").is_err());
}
