//! The laws of [`ObjectStore`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use highwater_domain::digest::md5;
use highwater_domain::object_store::{Creation, ListPage, ListedObject, NewObject, ObjectStore};

use super::object_keys;
use super::object_listing::{self, everything, names};

/// Runs every law. The store may hold other objects, none of them below `conformance/`.
pub async fn every_law(store: &Arc<dyn ObjectStore>) {
    a_created_object_reads_back(&**store).await;
    a_create_changes_nothing_that_is_there(&**store).await;
    an_md5_that_is_told_is_that_of_the_bytes(&**store).await;
    of_sixteen_concurrent_creates_one_wins(store).await;
    a_reader_sees_all_or_nothing(store).await;
    a_replacement_takes_effect(&**store).await;
    replacing_makes_what_is_not_there(&**store).await;
    absent_objects_are_none(&**store).await;
    a_range_is_the_bytes_that_are_there(&**store).await;
    user_metadata_is_kept_whole_or_not_at_all(&**store).await;
    an_encoding_changes_no_bytes(&**store).await;
    object_keys::odd_keys_name_themselves_or_are_refused(&**store).await;
    object_keys::escaping_keys_touch_nothing_else(&**store).await;
    object_keys::long_keys_are_keys(&**store).await;
    object_listing::listings_page_in_byte_order(&**store).await;
    object_listing::folders_are_listed_once(&**store).await;
    deletes_are_idempotent(&**store).await;
    a_deleted_key_is_free_again(&**store).await;
}

pub(super) fn object(key: &str, body: impl Into<Bytes>) -> NewObject {
    NewObject {
        key: key.to_owned(),
        body: body.into(),
        content_type: "application/octet-stream",
        item_count: Some(7),
        ..NewObject::default()
    }
}

pub(super) async fn created(store: &dyn ObjectStore, key: &str, body: impl Into<Bytes>) {
    let creation = store.create(object(key, body)).await.unwrap();
    assert_eq!(creation, Creation::Created, "{key:?} was free");
}

/// What was created is visible to `read`, `facts` and `list`, bytes for bytes, empty ones too.
pub async fn a_created_object_reads_back(store: &dyn ObjectStore) {
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (key, body) in [
        ("conformance/back/bytes", all_bytes),
        ("conformance/back/empty", Vec::new()),
    ] {
        created(store, key, body.clone()).await;
        let read = store.read(key).await.unwrap().expect("what was created");
        assert_eq!(read, body, "{key}");
        let facts = store.facts(key).await.unwrap().expect("what was created");
        assert_eq!(facts.bytes, body.len() as u64);
        assert!(facts.item_count.is_none_or(|count| count == 7));
        if let Some(sha256) = facts.sha256 {
            use sha2::{Digest, Sha256};
            assert_eq!(sha256, <[u8; 32]>::from(Sha256::digest(&body)));
        }
        let listed = everything(store, key).await;
        let expected = ListedObject {
            key: key.to_owned(),
            bytes: body.len() as u64,
        };
        assert_eq!(listed, [expected]);
        assert!(store.url(key).contains(key), "{}", store.url(key));
    }
}

/// Whoever asks for the MD5 creates and reads as everybody does, and is told the right one or none.
pub async fn an_md5_that_is_told_is_that_of_the_bytes(store: &dyn ObjectStore) {
    for body in ["", "one", "another"] {
        let key = format!("conformance/md5/of-{body}");
        let create = || store.create_told_md5(object(&key, body));
        let (creation, told) = create().await.unwrap();
        assert_eq!(creation, Creation::Created);
        assert!(told.is_none_or(|told| told == md5(body.as_bytes())));
        let (read, told) = store.read_told_md5(&key).await.unwrap().unwrap();
        assert_eq!(read, body);
        assert!(told.is_none_or(|told| told == md5(body.as_bytes())));
        assert_eq!(create().await.unwrap(), (Creation::Exists, None));
    }
    let nothing = store.read_told_md5("conformance/md5/of-nothing").await;
    assert_eq!(nothing.unwrap(), None);
}

/// A second create answers `Exists` and leaves the first one's bytes.
pub async fn a_create_changes_nothing_that_is_there(store: &dyn ObjectStore) {
    let key = "conformance/taken";
    created(store, key, "first").await;
    for body in ["second", "first", ""] {
        let creation = store.create(object(key, body)).await.unwrap();
        assert_eq!(creation, Creation::Exists);
        assert_eq!(store.read(key).await.unwrap().unwrap(), "first");
    }
}

/// Of sixteen creates at once exactly one is `Created`, and its bytes are the object's. Eight rounds.
pub async fn of_sixteen_concurrent_creates_one_wins(store: &Arc<dyn ObjectStore>) {
    for round in 0..8 {
        let key = format!("conformance/race/{round}");
        let creates: Vec<_> = (0..16u8)
            .map(|n| {
                let store = Arc::clone(store);
                let object = object(&key, vec![n; 1 + usize::from(n) * 4096]);
                tokio::spawn(async move { (n, store.create(object).await.unwrap()) })
            })
            .collect();
        let mut winners = Vec::new();
        for create in creates {
            let (n, creation) = create.await.unwrap();
            if creation == Creation::Created {
                winners.push(n);
            }
        }
        let [winner] = winners[..] else {
            panic!("{winners:?} were all told that they created {key}");
        };
        let read = store.read(&key).await.unwrap().unwrap();
        assert_eq!(read, vec![winner; 1 + usize::from(winner) * 4096]);
    }
}

/// While objects are created and replaced a reader sees whole ones only, and never one that goes away.
pub async fn a_reader_sees_all_or_nothing(store: &Arc<dyn ObjectStore>) {
    const BYTES: usize = 300_000;
    let key = "conformance/whole";
    let writer = {
        let store = Arc::clone(store);
        tokio::spawn(async move {
            created(&*store, key, vec![0; BYTES]).await;
            for n in 1..8 {
                store.replace(object(key, vec![n; BYTES])).await.unwrap();
            }
        })
    };
    let mut seen = None;
    while !writer.is_finished() {
        let read = store.read(key).await.unwrap();
        if let Some(body) = &read {
            assert_eq!(body.len(), BYTES, "a torn read");
            let first = body[0];
            assert!(body.iter().all(|byte| *byte == first), "a mixed read");
            assert!(seen.is_none_or(|before| before <= first), "back in time");
            seen = Some(first);
        } else {
            assert_eq!(seen, None, "the object was there before");
        }
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
    assert_eq!(store.read(key).await.unwrap().unwrap(), vec![7; BYTES]);
}

/// What was replaced reads and lists as the new bytes.
pub async fn a_replacement_takes_effect(store: &dyn ObjectStore) {
    let key = "conformance/replaced";
    created(store, key, "a long first version").await;
    store.replace(object(key, "second")).await.unwrap();
    assert_eq!(store.read(key).await.unwrap().unwrap(), "second");
    assert_eq!(store.facts(key).await.unwrap().unwrap().bytes, 6);
    assert_eq!(everything(store, key).await[0].bytes, 6);
    let creation = store.create(object(key, "third")).await.unwrap();
    assert_eq!(creation, Creation::Exists);
}

/// `replace` needs nothing to be there.
pub async fn replacing_makes_what_is_not_there(store: &dyn ObjectStore) {
    let key = "conformance/deeper/than/before/replaced";
    store.replace(object(key, "new")).await.unwrap();
    assert_eq!(store.read(key).await.unwrap().unwrap(), "new");
}

/// Absent objects are `None`, also where a folder of that name is, or an object is on the way.
pub async fn absent_objects_are_none(store: &dyn ObjectStore) {
    created(store, "conformance/absent/folder/object", "x").await;
    for key in [
        "conformance/absent/none",
        "conformance/absent/folder",
        "conformance/absent/folder/object/below",
        "conformance/no/such/folder/at/all",
    ] {
        assert_eq!(store.read(key).await.unwrap(), None, "{key}");
        assert_eq!(store.facts(key).await.unwrap(), None, "{key}");
    }
    let page = store.list("conformance/nothing", None).await.unwrap();
    assert_eq!(page, ListPage::default());
}

/// A range gives its bytes, as many as there are: fewer at the end, none behind it, none of an empty range.
pub async fn a_range_is_the_bytes_that_are_there(store: &dyn ObjectStore) {
    let body: Vec<u8> = (0..200).collect();
    let (key, empty) = ("conformance/range/object", "conformance/range/empty");
    created(store, key, body.clone()).await;
    created(store, empty, "").await;
    for (start, end) in [
        (0, 200),
        (0, 1),
        (7, 19),
        (199, 200),
        (190, 201),
        (0, 1 << 40),
        (199, u64::MAX),
        (200, 201),
        (200, u64::MAX),
        (1 << 40, 1 << 41),
        (u64::MAX - 1, u64::MAX),
        (0, 0),
        (50, 50),
        (200, 200),
        (300, 300),
    ] {
        let read = store.read_range(key, start..end).await.unwrap();
        let within = |at: u64| usize::try_from(at.min(200)).unwrap();
        let expected = &body[within(start)..within(end)];
        assert_eq!(read.as_deref(), Some(expected), "{start}..{end} of 200");
        let read = store.read_range(empty, start..end).await.unwrap();
        assert_eq!(read.as_deref(), Some(&[][..]), "{start}..{end} of 0");
        for absent in [
            "conformance/range/none",
            "conformance/range",
            "conformance/range/object/x",
        ] {
            let read = store.read_range(absent, start..end).await.unwrap();
            assert_eq!(read, None, "{start}..{end} of {absent}");
        }
    }
}

/// A store keeps all of an object's user metadata, or none; a replacement brings its own.
pub async fn user_metadata_is_kept_whole_or_not_at_all(store: &dyn ObjectStore) {
    let key = "conformance/metadata";
    let metadata = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let first = metadata(&[
        ("dyndump-sha256", "e3b0c44298fc1c14=="),
        (
            "with_underscore.and-dash",
            "a value, with; signs = and spaces",
        ),
    ]);
    let second = metadata(&[("other", "1")]);
    let of = |user_metadata: &BTreeMap<String, String>| NewObject {
        user_metadata: user_metadata.clone(),
        ..object(key, "x")
    };
    assert_eq!(store.create(of(&first)).await.unwrap(), Creation::Created);
    assert_eq!(store.create(of(&second)).await.unwrap(), Creation::Exists);
    let kept = !user_metadata(store, key).await.is_empty();
    for (given, replaced) in [(&first, false), (&second, true)] {
        if replaced {
            store.replace(of(given)).await.unwrap();
        }
        let found = user_metadata(store, key).await;
        let expected = if kept { given.clone() } else { BTreeMap::new() };
        assert_eq!(found, expected);
    }
    store.replace(object(key, "x")).await.unwrap();
    assert_eq!(user_metadata(store, key).await, BTreeMap::new());
}

/// The metadata of an object, but for the item count, which a store may keep there.
pub async fn user_metadata(store: &dyn ObjectStore, key: &str) -> BTreeMap<String, String> {
    let facts = store.facts(key).await.unwrap().expect("what was created");
    let mut metadata = facts.user_metadata;
    metadata.retain(|name, _| name != "highwater-items");
    metadata
}

/// `Content-Encoding` is for whoever is served the object: its bytes are read, ranged and counted as stored.
pub async fn an_encoding_changes_no_bytes(store: &dyn ObjectStore) {
    for (key, encoding) in [
        ("conformance/encoded/gzip", "gzip"),
        ("conformance/encoded/zstd", "zstd"),
    ] {
        // No gzip and no zstd at all: whoever decoded it would stumble.
        let encoded = NewObject {
            content_encoding: Some(encoding),
            ..object(key, "not compressed")
        };
        let creation = store.create(encoded).await.unwrap();
        assert_eq!(creation, Creation::Created);
        assert_eq!(store.read(key).await.unwrap().unwrap(), "not compressed");
        let range = store.read_range(key, 4..8).await.unwrap();
        assert_eq!(range.unwrap(), "comp");
        assert_eq!(store.facts(key).await.unwrap().unwrap().bytes, 14);
    }
}

/// Deleting what is not there succeeds, also beside what is, and twice.
pub async fn deletes_are_idempotent(store: &dyn ObjectStore) {
    let key = "conformance/deleted/key".to_owned();
    let kept = "conformance/deleted/kept";
    created(store, &key, "x").await;
    created(store, kept, "x").await;
    let keys = [key.clone(), "conformance/deleted/never".to_owned()];
    for _ in 0..2 {
        store.delete(&keys).await.unwrap();
        assert_eq!(store.read(&key).await.unwrap(), None);
        assert_eq!(store.facts(&key).await.unwrap(), None);
    }
    assert_eq!(
        names(everything(store, "conformance/deleted/").await),
        [kept]
    );
    // A folder is no object: its name deletes nothing.
    store
        .delete(&["conformance/deleted".to_owned()])
        .await
        .unwrap();
    assert!(store.read(kept).await.unwrap().is_some());
    store.delete(&[]).await.unwrap();
}

/// After a delete the next create wins, and nothing of the old object is left.
pub async fn a_deleted_key_is_free_again(store: &dyn ObjectStore) {
    let key = "conformance/again/key";
    for body in ["first, longer", "second"] {
        created(store, key, body).await;
        assert_eq!(store.read(key).await.unwrap().unwrap(), body);
        store.delete(&[key.to_owned()]).await.unwrap();
    }
}
