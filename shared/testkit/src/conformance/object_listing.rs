//! The laws of [`ObjectStore`]'s listings.

use highwater_domain::object_store::{ListPage, ListedObject, ObjectStore};

use super::object_store::created;

/// Listings come in byte order of the keys, page after page, each key once.
pub async fn listings_page_in_byte_order(store: &dyn ObjectStore) {
    let prefix = "conformance/list/";
    let mut keys: Vec<String> = [
        "a-b/x", "a.b", "a/b/c", "a/b.d", "a/b/d", "a0", "b", "\u{e9}",
    ]
    .iter()
    .map(|name| format!("{prefix}{name}"))
    .collect();
    for key in &keys {
        created(store, key, key.clone()).await;
    }
    keys.sort_unstable();
    assert_eq!(names(everything(store, prefix).await), keys);
    let below: Vec<&String> = keys.iter().filter(|key| key.contains("/a/b")).collect();
    let listed = names(everything(store, "conformance/list/a/b").await);
    assert_eq!(listed.iter().collect::<Vec<_>>(), below);
    for (index, key) in keys.iter().enumerate() {
        // Any key will do as a position, also one that is gone.
        let after = store.list(prefix, Some(key)).await.unwrap();
        let first = after.objects.first().map(|object| &object.key);
        assert_eq!(first, keys.get(index + 1), "after {key}");
    }
}

/// The components below a prefix come once each, with `/`, and the objects there beside them.
pub async fn folders_are_listed_once(store: &dyn ObjectStore) {
    let prefix = "conformance/folders/";
    for name in ["t/1", "t/2", "t-1/3", "u/v/w/4", "u/5", "plain"] {
        created(store, &format!("{prefix}{name}"), "x").await;
    }
    let mut folders = Vec::new();
    let mut objects = Vec::new();
    let mut after = None;
    loop {
        let page = store.list_folders(prefix, after.as_deref()).await.unwrap();
        folders.extend(page.folders);
        objects.extend(page.objects.into_iter().map(|object| object.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let expected = ["t-1/", "t/", "u/"].map(|name| format!("{prefix}{name}"));
    assert_eq!(folders, expected);
    assert_eq!(objects, [format!("{prefix}plain")]);
    let nothing = store.list_folders("conformance/none/", None).await.unwrap();
    assert_eq!(nothing, ListPage::default());
}

/// The whole listing, page by page.
pub async fn everything(store: &dyn ObjectStore, prefix: &str) -> Vec<ListedObject> {
    let mut all: Vec<ListedObject> = Vec::new();
    let mut after = None;
    loop {
        let page = store.list(prefix, after.as_deref()).await.unwrap();
        assert!(page.folders.is_empty(), "a flat listing has no folders");
        for object in page.objects {
            let in_order = all.last().is_none_or(|last| last.key < object.key);
            assert!(in_order, "{:?} came after {:?}", object.key, all.last());
            all.push(object);
        }
        assert!(page.next.is_none() || page.next > after, "no progress");
        after = page.next;
        if after.is_none() {
            return all;
        }
    }
}

pub(super) fn names(objects: Vec<ListedObject>) -> Vec<String> {
    objects.into_iter().map(|object| object.key).collect()
}
