//! Walks a folder as S3 lists a bucket: by prefix, in byte order of the keys, page by page.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use highwater_domain::object_store::{ListPage, ListedObject};

/// What one page of a listing is to hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Listing<'a> {
    /// Keys start with this.
    pub(crate) prefix: &'a str,
    /// Keys and folders up to and including this one were on earlier pages.
    pub(crate) after: Option<&'a str>,
    /// Whether keys with a further `/` are rolled up into their folder.
    pub(crate) folders: bool,
    /// The most objects and folders on a page, at least 1.
    pub(crate) limit: usize,
    /// A top-level folder that is not part of the store.
    pub(crate) hidden: &'a str,
}

impl Listing<'_> {
    /// Reads one page of the tree under `root`. A root that is not there is an empty store.
    pub(crate) fn page(&self, root: &Path) -> io::Result<ListPage> {
        let mut page = ListPage::default();
        // Only the folder that the prefix names can hold matches: the walk begins there.
        let start = self
            .prefix
            .rfind('/')
            .map_or("", |end| &self.prefix[..=end]);
        self.walk(root, start, &mut page)?;
        Ok(page)
    }

    /// Adds what `folder` (a key prefix ending in `/`, or empty) holds; false once the page is full.
    fn walk(&self, root: &Path, folder: &str, page: &mut ListPage) -> io::Result<bool> {
        for entry in sorted_entries(&root.join(folder), folder)? {
            if folder.is_empty() && entry.key.trim_end_matches('/') == self.hidden {
                continue;
            }
            let goes_on = if entry.is_folder {
                self.visit_folder(root, &entry.key, page)?
            } else {
                self.visit_object(entry, page)
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn visit_folder(&self, root: &Path, key: &str, page: &mut ListPage) -> io::Result<bool> {
        let below = key.starts_with(self.prefix);
        if !below && !self.prefix.starts_with(key) {
            return Ok(true);
        }
        if self.folders && below {
            if self.is_past(key) && holds_file(&root.join(key))? {
                if Self::is_full(self, page) {
                    return Ok(false);
                }
                page.folders.push(key.to_owned());
            }
            return Ok(true);
        }
        let seen_whole = self
            .after
            .is_some_and(|after| key < after && !after.starts_with(key));
        if seen_whole {
            return Ok(true);
        }
        self.walk(root, key, page)
    }

    fn visit_object(&self, entry: Entry, page: &mut ListPage) -> bool {
        if !entry.key.starts_with(self.prefix) || !self.is_past(&entry.key) {
            return true;
        }
        if self.is_full(page) {
            return false;
        }
        page.objects.push(ListedObject {
            key: entry.key,
            bytes: entry.bytes,
        });
        true
    }

    fn is_past(&self, key: &str) -> bool {
        self.after.is_none_or(|after| key > after)
    }

    /// Whether nothing more fits; then the page learns where the next one begins.
    fn is_full(&self, page: &mut ListPage) -> bool {
        if page.objects.len() + page.folders.len() < self.limit {
            return false;
        }
        let last_object = page.objects.last().map(|object| &object.key);
        page.next = last_object.max(page.folders.last()).cloned();
        true
    }
}

/// One name in a folder, as the key or key prefix (ending in `/`) that it stands for.
struct Entry {
    key: String,
    is_folder: bool,
    bytes: u64,
}

/// A folder's entries in the byte order of the keys below them. Absent folders are empty.
fn sorted_entries(path: &Path, folder: &str) -> io::Result<Vec<Entry>> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut sorted = Vec::new();
    for entry in entries {
        let entry = entry?;
        let Some(name) = key_name(entry.file_name(), path) else {
            continue;
        };
        // Links to files count as files; links to folders are not followed, for they may go round.
        let is_folder = entry.file_type()?.is_dir();
        let bytes = match fs::metadata(entry.path()) {
            Ok(facts) if is_folder || facts.is_file() => facts.len(),
            Ok(_) => continue,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        let slash = if is_folder { "/" } else { "" };
        sorted.push(Entry {
            key: format!("{folder}{name}{slash}"),
            is_folder,
            bytes,
        });
    }
    sorted.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(sorted)
}

/// Keys are UTF-8; a file of another name was not made by this store.
fn key_name(name: OsString, folder: &Path) -> Option<String> {
    name.into_string()
        .map_err(|name| {
            tracing::warn!(
                ?folder,
                ?name,
                "a file whose name is no UTF-8 is not listed"
            );
        })
        .ok()
}

/// Whether any file lies anywhere under `folder`.
pub(crate) fn holds_file(folder: &Path) -> io::Result<bool> {
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            if !entry.file_type()?.is_dir() {
                return Ok(true);
            }
            waiting.push(entry.path());
        }
    }
    Ok(false)
}

/// Nothing there: no such name, or a file where the path needs a folder.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(keys: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for key in keys {
            let path = root.path().join(key);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, key).unwrap();
        }
        root
    }

    fn list_all(root: &Path, prefix: &str, folders: bool, limit: usize) -> Vec<String> {
        let mut all = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = Listing {
                prefix,
                after: after.as_deref(),
                folders,
                limit,
                hidden: ".tmp",
            }
            .page(root)
            .unwrap();
            let mut keys: Vec<String> = page.objects.into_iter().map(|o| o.key).collect();
            keys.extend(page.folders);
            keys.sort();
            assert!(keys.len() <= limit);
            all.extend(keys);
            after = page.next;
            if after.is_none() {
                return all;
            }
        }
    }

    #[test]
    fn pages_of_any_size_give_the_keys_in_byte_order() {
        let mut keys = [
            "a-b/x", "a.b", "a/b/c", "a/b.d", "a/b/d", "a0", "b", ".tmp2/x", "é/ß",
        ];
        let root = tree(&keys);
        fs::create_dir_all(root.path().join(".tmp/half")).unwrap();
        fs::write(root.path().join(".tmp/half-written"), "x").unwrap();
        keys.sort_unstable();
        for limit in 1..12 {
            assert_eq!(list_all(root.path(), "", false, limit), keys, "{limit}");
        }
        assert_eq!(
            list_all(root.path(), "a/b", false, 2),
            ["a/b.d", "a/b/c", "a/b/d"]
        );
        assert_eq!(list_all(root.path(), "a/b/", false, 2), ["a/b/c", "a/b/d"]);
        assert!(list_all(root.path(), "nothing/here", false, 2).is_empty());
        assert!(list_all(root.path(), "b/", false, 2).is_empty());
    }

    #[test]
    fn folders_are_rolled_up_and_empty_ones_are_none() {
        let root = tree(&["t/a/1", "t/a/2", "t/b/c/d", "t/e", "u/f"]);
        fs::create_dir_all(root.path().join("t/empty/er")).unwrap();
        for limit in 1..6 {
            assert_eq!(
                list_all(root.path(), "t/", true, limit),
                ["t/a/", "t/b/", "t/e"],
                "{limit}"
            );
            assert_eq!(list_all(root.path(), "", true, limit), ["t/", "u/"]);
        }
    }
}
