//! BatchWriteItem that does half of its work, as DynamoDB does under load.

use bytes::Bytes;
use serde_json::{Map, Value, json};

/// The request with about half of its writes, and the others, to be answered as unprocessed.
///
/// `None` if the body is no BatchWriteItem request with a write to hold back.
pub(crate) fn split(body: &[u8]) -> Option<(Bytes, Value)> {
    let mut request: Value = serde_json::from_slice(body).ok()?;
    let tables = request.get_mut("RequestItems")?.as_object_mut()?;
    let mut held_back = Map::new();
    for (table, writes) in tables.iter_mut() {
        let writes = writes.as_array_mut()?;
        let rest = writes.split_off(writes.len() / 2);
        held_back.insert(table.clone(), Value::Array(rest));
    }
    tables.retain(|_, writes| writes.as_array().is_some_and(|writes| !writes.is_empty()));
    Some((request.to_string().into(), Value::Object(held_back)))
}

/// Whether anything is left in the request after [`split`].
pub(crate) fn writes_something(body: &[u8]) -> bool {
    serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|request| Some(!request.get("RequestItems")?.as_object()?.is_empty()))
        .unwrap_or(false)
}

/// The service's answer with the writes that were held back as unprocessed.
pub(crate) fn answer(body: &[u8], held_back: Value) -> Bytes {
    let mut answer: Value = serde_json::from_slice(body).unwrap_or_else(|_| json!({}));
    if let Some(members) = answer.as_object_mut() {
        members.insert("UnprocessedItems".to_owned(), held_back);
    }
    answer.to_string().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_in_one_half() {
        let body = br#"{"RequestItems":{"a":[1,2,3],"b":[4]}}"#;
        let (kept, held_back) = split(body).unwrap();
        assert_eq!(kept, r#"{"RequestItems":{"a":[1]}}"#);
        assert_eq!(held_back, json!({"a": [2, 3], "b": [4]}));
        assert!(writes_something(&kept));
        let (kept, _) = split(br#"{"RequestItems":{"b":[4]}}"#).unwrap();
        assert!(!writes_something(&kept));
        assert!(split(b"{}").is_none());
    }
}
