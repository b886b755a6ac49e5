//! The laws of [`ObjectStore`]'s keys.

use std::collections::BTreeMap;

use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::{Creation, ObjectStore};

use super::object_listing::everything;
use super::object_store::{created, object};

/// Keys are opaque: an odd one names exactly the object it spells, or the store refuses it.
pub async fn odd_keys_name_themselves_or_are_refused(store: &dyn ObjectStore) {
    let prefix = "conformance/odd/";
    let odd = [
        "a+b",
        "a b",
        " a",
        "a ",
        "100%",
        "%2F",
        "%",
        "%41",
        "A",
        "a&b=c;d",
        "e?f#g",
        "q\"'<>`{}",
        "\u{fc}n\u{ef}/c\u{f6}d\u{e9}",
        "u\u{308}",
        "\u{65e5}\u{672c}\u{8a9e}",
        "\u{1f600}",
        "~",
        "a\\b",
        "a:b",
        "*",
        "-",
        ".hidden",
        "dots...",
        "trailing.",
        "$(x)",
        "@,!|^",
    ];
    let mut kept = BTreeMap::new();
    for name in odd {
        let key = format!("{prefix}{name}");
        match store.create(object(&key, key.clone())).await {
            Ok(creation) => {
                assert_eq!(
                    creation,
                    Creation::Created,
                    "{key:?} is another key's object"
                );
                kept.insert(key.clone(), key.len() as u64);
            }
            Err(failure) => assert_eq!(failure.kind, FailureKind::Invalid, "{failure}"),
        }
    }
    assert!(
        kept.len() >= odd.len() - 2,
        "too many are refused: {kept:?}"
    );
    for key in kept.keys() {
        assert_eq!(store.read(key).await.unwrap().unwrap(), key.as_str());
    }
    let listed = everything(store, prefix).await;
    let listed: BTreeMap<String, u64> = listed.into_iter().map(|o| (o.key, o.bytes)).collect();
    assert_eq!(listed, kept);
    let keys: Vec<String> = kept.into_keys().collect();
    store.delete(&keys).await.unwrap();
    assert!(everything(store, prefix).await.is_empty());
}

/// Keys of up to 1024 bytes are keys, as long as none of their components is longer than a file name.
pub async fn long_keys_are_keys(store: &dyn ObjectStore) {
    let folder = "conformance/long";
    // A record of a change log, and the longest that there can be.
    let logged = format!(
        "{folder}/{}/log/2026-01-14T10:18:50.622/shardId-00000001768385930622-efd1a093/{}-{}-1000.jsonl.zst",
        "t".repeat(200),
        "1".repeat(40),
        "2".repeat(40),
    );
    let mut longest = format!("{folder}/longest");
    while longest.len() < 1024 {
        let component = (1024 - longest.len() - 1).min(200);
        longest = format!("{longest}/{}", "k".repeat(component.max(1)));
    }
    assert_eq!(longest.len(), 1024);
    let mut keys = vec![logged, longest];
    keys.extend([90, 120, 150, 180, 255].map(|length| format!("{folder}/{}", "n".repeat(length))));
    for key in &keys {
        created(store, key, "first").await;
        let again = store.create(object(key, "second")).await.unwrap();
        assert_eq!(again, Creation::Exists, "{} bytes", key.len());
        assert_eq!(store.read(key).await.unwrap().unwrap(), "first");
        store.replace(object(key, "replaced")).await.unwrap();
        assert_eq!(store.read(key).await.unwrap().unwrap(), "replaced");
    }
    let listed = everything(store, &format!("{folder}/")).await;
    let mut listed: Vec<String> = listed.into_iter().map(|found| found.key).collect();
    listed.sort();
    let mut expected = keys.clone();
    expected.sort();
    assert_eq!(listed, expected);
    store.delete(&keys).await.unwrap();
    assert!(everything(store, &format!("{folder}/")).await.is_empty());
    for key in &keys {
        assert!(store.read(key).await.unwrap().is_none(), "{key}");
        created(store, key, "anew").await;
        assert_eq!(store.read(key).await.unwrap().unwrap(), "anew");
    }
    store.delete(&keys).await.unwrap();
}

/// `..` and its like are plain names, or refused; they never reach another object.
pub async fn escaping_keys_touch_nothing_else(store: &dyn ObjectStore) {
    let victim = "conformance/escape/victim";
    created(store, victim, "safe").await;
    for key in [
        "conformance/escape/x/../victim",
        "conformance/escape/./victim",
        "conformance/escape//victim",
        "conformance/../conformance/escape/victim",
        "/conformance/escape/victim",
        "../conformance/escape/victim",
        "conformance/escape/victim/",
        "conformance/escape/vic\0tim",
    ] {
        match store.create(object(key, "evil")).await {
            Ok(creation) => {
                assert_eq!(
                    creation,
                    Creation::Created,
                    "{key:?} reached another object"
                );
                assert_eq!(store.read(key).await.unwrap().unwrap(), "evil");
                store.delete(&[key.to_owned()]).await.unwrap();
            }
            Err(failure) => {
                assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
                assert!(!matches!(store.read(key).await, Ok(Some(_))), "{key:?}");
                assert!(store.replace(object(key, "evil")).await.is_err(), "{key:?}");
            }
        }
        assert_eq!(
            store.read(victim).await.unwrap().unwrap(),
            "safe",
            "{key:?}"
        );
    }
}
