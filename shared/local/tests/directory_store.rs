//! A folder as a store: crashes, leftovers, and what it refuses.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use highwater_domain::failure::FailureKind;
use highwater_domain::object_store::{Creation, NewObject, ObjectStore};
use highwater_local::DirectoryStore;

/// Tells the child process which folder to write to.
const ROOT: &str = "DIRECTORY_STORE_TEST_ROOT";
const BODY_BYTES: usize = 100_000;

fn object(key: &str, body: impl Into<bytes::Bytes>) -> NewObject {
    NewObject {
        key: key.to_owned(),
        body: body.into(),
        content_type: "application/octet-stream",
        item_count: None,
        ..NewObject::default()
    }
}

#[tokio::test]
#[ignore = "no test by itself: the test below runs it as a child process, with --ignored --exact"]
async fn write_until_killed() {
    let Ok(root) = std::env::var(ROOT) else {
        return;
    };
    let store = DirectoryStore::new(Path::new(&root));
    for number in 0u64.. {
        let body = vec![u8::try_from(number % 251).unwrap(); BODY_BYTES];
        let key = format!("data/{}/{number:06}", number % 3);
        store.create(object(&key, body.clone())).await.unwrap();
        store.replace(object("backup.json", body)).await.unwrap();
    }
}

#[tokio::test]
async fn a_kill_at_any_moment_leaves_whole_objects_only() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..6 {
        let root = folder.path().join(round.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "write_until_killed"])
            .env(ROOT, &root)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let store = DirectoryStore::new(&root);
        while store.facts("data/0/000003").await.unwrap().is_none() {
            assert!(child.try_wait().unwrap().is_none(), "the writer ended");
            tokio::time::sleep(Duration::from_micros(300 + 500 * round)).await;
        }
        child.kill().unwrap();
        child.wait().unwrap();

        let page = store.list("", None).await.unwrap();
        assert!(page.objects.len() > 3);
        for listed in page.objects {
            let body = store.read(&listed.key).await.unwrap().unwrap();
            assert_eq!(body.len(), BODY_BYTES, "{}", listed.key);
            assert!(body.iter().all(|byte| *byte == body[0]), "{}", listed.key);
        }
        // Whatever is half written is out of the way of the next writer.
        let next = object("data/next", "x");
        assert_eq!(store.create(next).await.unwrap(), Creation::Created);
    }
}

#[tokio::test]
async fn only_old_leftovers_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let temporary = folder.path().join(".highwater-tmp");
    fs::create_dir(&temporary).unwrap();
    let (old, young) = (temporary.join(".tmpOld"), temporary.join(".tmpYoung"));
    for path in [&old, &young] {
        fs::write(path, "half").unwrap();
    }
    let two_days_ago = SystemTime::now() - Duration::from_hours(48);
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(two_days_ago).unwrap();

    let store = DirectoryStore::new(folder.path());
    assert!(store.list("", None).await.unwrap().objects.is_empty());
    store.create(object("a", "x")).await.unwrap();
    assert!(!old.exists());
    assert!(young.exists(), "it may be growing");
}

#[tokio::test]
async fn keys_that_no_file_can_have_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(&folder.path().join("store"));
    let long = format!("a/{}", "n".repeat(256));
    for key in [
        "",
        "/a",
        "a//b",
        "a/",
        "..",
        "a/../b",
        "./a",
        "a\0b",
        ".highwater-tmp/x",
        &long,
    ] {
        for failure in [
            store.create(object(key, "x")).await.unwrap_err(),
            store.replace(object(key, "x")).await.unwrap_err(),
            store.read(key).await.unwrap_err(),
            store.facts(key).await.unwrap_err(),
            store.delete(&[key.to_owned()]).await.unwrap_err(),
        ] {
            assert_eq!(failure.kind, FailureKind::Invalid, "{key:?}: {failure}");
        }
    }
    assert!(store.list("../", None).await.is_err());
    assert!(!folder.path().join("store").exists(), "nothing was touched");
}

#[tokio::test]
async fn an_object_and_a_folder_cannot_share_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = DirectoryStore::new(folder.path());
    store.create(object("a/b", "x")).await.unwrap();
    for key in ["a", "a/b/c", "a/b/c/d"] {
        let created = store.create(object(key, "y")).await.unwrap_err();
        let replaced = store.replace(object(key, "y")).await.unwrap_err();
        for failure in [created, replaced] {
            assert_eq!(failure.kind, FailureKind::Invalid, "{failure}");
            let named = folder.path().join(key).display().to_string();
            assert_eq!(failure.resource, named);
        }
    }
    assert_eq!(store.read("a/b").await.unwrap().unwrap(), "x");
}

#[tokio::test]
async fn a_root_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    let store = DirectoryStore::new(&file);
    let failure = store.create(object("a", "x")).await.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Invalid);
    assert!(
        failure.to_string().contains(file.to_str().unwrap()),
        "{failure}"
    );
    assert_eq!(store.bucket(), "file");
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_only_folder_denies() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    fs::create_dir(&root).unwrap();
    fs::set_permissions(&root, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(root.join("probe"), "x").is_ok() {
        // The super-user may write everywhere: nothing to see here.
        return;
    }
    let failure = DirectoryStore::new(&root)
        .create(object("a", "x"))
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::Denied);
    assert!(failure.resource.contains("store"));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletes_and_creates_side_by_side_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(DirectoryStore::new(folder.path()));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let store = std::sync::Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..200 {
                    let key = format!("deep/er/{worker}");
                    let creation = store.create(object(&key, "x")).await.unwrap();
                    assert_eq!(creation, Creation::Created);
                    store.delete(&[key]).await.unwrap();
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
    let left: Vec<PathBuf> = fs::read_dir(folder.path())
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    assert_eq!(left, [folder.path().join(".highwater-tmp")]);
}
