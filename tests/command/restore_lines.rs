//! Lines from a file, a folder or standard input, and backups that real programs wrote.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use highwater_domain::key::ScalarType;
use highwater_testkit::generate::{KeyShape, canonical};
use highwater_testkit::tables::NewTable;
use highwater_tests::checkout;
use serde_json::{Value, json};

use super::movies::{self, movies};
use super::read_back::{Items, assert_same, table_items};
use super::restoring::{
    TARGET, assert_accounted_for, completed, done, file, restore_lines, run_with_input, total,
};
use super::stage::{BUCKET, Stage};

const FILMS: u64 = 3201;

fn lines(count: usize) -> Vec<u8> {
    let line = |n| format!("{{\"Item\":{{\"pk\":{{\"S\":\"k{n}\"}},\"n\":{{\"N\":\"{n}\"}}}}}}\n");
    (0..count).map(line).collect::<String>().into_bytes()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

/// One zstd frame of raw blocks: <https://www.rfc-editor.org/rfc/rfc8878>.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    // The magic number, and a header that says: a window of 1 MiB, no size, no checksum.
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x50];
    let mut blocks = bytes.chunks(100_000).peekable();
    while let Some(block) = blocks.next() {
        let header = u32::try_from(block.len()).unwrap() << 3 | u32::from(blocks.peek().is_none());
        packed.extend_from_slice(&header.to_le_bytes()[..3]);
        packed.extend_from_slice(block);
    }
    packed
}

async fn items_of(stage: &Stage, table: &str) -> Items {
    table_items(stage, table, &KeyShape::STRING.schema()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_may_be_plain_gzip_or_zstd() {
    let stage = Stage::with_items(0).await;
    let plain = lines(2500);
    let members = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
    let inputs = [plain.clone(), gzip(&plain), members, zstd(&plain)];
    for (number, input) in inputs.iter().enumerate() {
        let target = format!("target-{number}");
        let begin = ["restore", "-", "--to", &target, "--key", "pk:S", "--json"];
        let told = run_with_input(&stage, &begin, input).await.done();
        assert_eq!(total(&completed(&told), "written"), 2500, "input {number}");
        assert_same(
            &items_of(&stage, &target).await,
            &items_of(&stage, "target-0").await,
        );
    }
    for begin in [
        ["load", "target-0", "--stdin"],
        ["load", "target-0", "--file=-"],
    ] {
        let told = run_with_input(&stage, &[&begin[..], &["--json"]].concat(), &plain)
            .await
            .done();
        assert_eq!(total(&completed(&told), "existing"), 2500);
    }
    // Nothing is nothing, and no error.
    let told = run_with_input(&stage, &["load", "target-0", "--stdin", "--json"], b"")
        .await
        .done();
    assert_eq!(total(&completed(&told), "read"), 0);
    // Torn or no JSON at all is one, and names the line.
    for (input, words) in [
        (&plain[..plain.len() - 9], "line 2500"),
        (
            b"{\"Item\":{\"pk\":{\"S\":\"x\"}}}\n]\n".as_slice(),
            "line 2",
        ),
        (&gzip(&plain)[..600], "line"),
    ] {
        let told = run_with_input(&stage, &["load", "target-0", "--stdin"], input).await;
        let told = told.failed(1, &[words, "stdin"]);
        assert!(
            !told.stderr.contains("--resume"),
            "its input is gone: {told:#?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_lines_is_loaded_whole_here_and_in_s3() {
    let stage = Stage::start().await;
    let plain = lines(900);
    let cut = |from: usize, to: usize| -> Vec<u8> {
        let lines = plain
            .split_inclusive(|byte| *byte == b'\n')
            .skip(from)
            .take(to - from);
        lines.flatten().copied().collect()
    };
    let files = [
        ("a.json", cut(0, 300)),
        ("b.jsonl.gz", gzip(&cut(300, 600))),
        ("deeper/c.ndjson.zst", zstd(&cut(600, 899))),
        // A bare item, with a byte order mark, without a line break.
        (
            "d e+f.json",
            b"\xef\xbb\xbf{\"pk\":{\"S\":\"k899\"},\"n\":{\"N\":\"899\"}}".to_vec(),
        ),
        ("empty.json", Vec::new()),
        ("notes.txt", b"not for us".to_vec()),
    ];
    for (name, bytes) in &files {
        file(&stage, &format!("folder/{name}"), bytes);
        file(&stage, &format!("s3/{BUCKET}/lines/{name}"), bytes);
    }
    let folder = stage.folder.path().join("folder");
    let result = done(&stage, &restore_lines(&folder, "pk:S", &[])).await;
    assert_eq!(total(&result, "written"), 900, "{result}");
    let there = items_of(&stage, TARGET).await;
    assert_eq!(there.len(), 900);
    for place in [
        format!("file://{}", folder.display()),
        format!("s3://{BUCKET}/lines"),
        format!("s3://{BUCKET}/lines/"),
    ] {
        let load = ["load", TARGET, "--from", &place, "--allow-overwrite"];
        let result = done(&stage, &load).await;
        assert_eq!(total(&result, "written"), 900, "{place}: {result}");
    }
    assert_same(&items_of(&stage, TARGET).await, &there);
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(checkout::path(&format!("tests/fixtures/dyndump/{name}"))).unwrap()
}

/// The films as dyndump's own dump of them has them: their place in the file is `n`.
fn dyndump_films() -> Vec<Value> {
    let packed = fixture("movies.json.gz");
    let mut text = String::new();
    GzDecoder::new(&packed[..])
        .read_to_string(&mut text)
        .unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn films_by_key(films: &[Value], shape: KeyShape) -> Items {
    let schema = shape_named(shape);
    let keyed = films.iter().map(|film| {
        let film = film.to_string().into_bytes();
        (schema.key_of(&film).unwrap(), canonical(&film))
    });
    keyed.collect()
}

/// dyndump's table had `pk` and `n`.
fn shape_named(shape: KeyShape) -> highwater_domain::key::KeySchema {
    let mut schema = shape.schema();
    if let Some(sort) = &mut schema.sort {
        "n".clone_into(&mut sort.name);
    }
    schema
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_real_dyndump_wrote_is_restored() {
    let stage = Stage::start().await;
    let shape = KeyShape {
        partition: ScalarType::S,
        sort: Some(ScalarType::N),
    };
    let films = films_by_key(&dyndump_films(), shape);
    assert_eq!(films.len() as u64, FILMS);
    for name in [
        "movies-meta.json",
        "movies-part-000000001.json.gz",
        "movies-part-000000002.json.gz",
        "movies-part-000000003.json.gz",
    ] {
        let bytes = fixture(name);
        file(&stage, &format!("dyndump/{name}"), &bytes);
        file(&stage, &format!("s3/{BUCKET}/old/{name}"), &bytes);
    }
    let whole = file(&stage, "whole/movies.json.gz", &fixture("movies.json.gz"));
    let folder = stage.folder.path().join("dyndump/movies");
    let places = [
        format!("s3://{BUCKET}/old/movies"),
        folder.to_str().unwrap().to_owned(),
        whole.to_str().unwrap().to_owned(),
    ];
    for (number, place) in places.iter().enumerate() {
        let target = format!("target-{number}");
        let begin = ["restore", place, "--to", &target, "--key", "pk:S,n:N"];
        let result = done(&stage, &begin).await;
        assert_eq!(
            (total(&result, "read"), total(&result, "written")),
            (FILMS, FILMS),
            "{place}"
        );
        assert_same(
            &table_items(&stage, &target, &shape_named(shape)).await,
            &films,
        );
    }
    let load = [
        "load",
        "target-0",
        "--s3-bucket",
        BUCKET,
        "--s3-prefix",
        "old/movies",
    ];
    let result = done(&stage, &load).await;
    assert_eq!(total(&result, "existing"), FILMS);
}

/// Data that nobody made up for a test, as lines.
#[tokio::test(flavor = "multi_thread")]
async fn the_films_of_vega_are_loaded_as_lines() {
    let stage = Stage::start().await;
    let films = movies();
    let text: Vec<String> = films.iter().map(Value::to_string).collect();
    let file = file(&stage, "movies.jsonl.gz", &gzip(text.join("\n").as_bytes()));
    let result = done(&stage, &restore_lines(&file, "id:N", &[])).await;
    assert_eq!(total(&result, "written"), FILMS);
    let schema = movies::schema();
    let expected: Items = films
        .iter()
        .map(|item| {
            let item = item.to_string().into_bytes();
            (schema.key_of(&item).unwrap(), canonical(&item))
        })
        .collect();
    assert_same(&table_items(&stage, TARGET, &schema).await, &expected);
}

/// Items that no table with the text key `pk` takes, by their lines.
fn bad_items() -> Vec<(u64, Value)> {
    vec![
        (3, json!({"pk": {"N": "7"}, "why": {"S": "key type"}})),
        (5, json!({"n": {"N": "1"}, "why": {"S": "no key"}})),
        (8, json!({"pk": {"S": ""}, "why": {"S": "an empty key"}})),
        (
            9,
            json!({"pk": {"S": "x".repeat(2049)}, "why": {"S": "a key too long"}}),
        ),
        (20, json!({"pk": {"S": "number"}, "n": {"N": "1e400"}})),
        (27, json!({"pk": {"S": "set"}, "n": {"SS": []}})),
        (28, json!({"pk": {"S": "old dyndump"}, "n": {}})),
    ]
}

/// Sixty lines with the bad items among them.
fn lines_with(bad: &[(u64, Value)]) -> Vec<u8> {
    let line = |number: u64| {
        let item = bad.iter().find(|(at, _)| *at == number);
        let item = item.map_or_else(
            || json!({"pk": {"S": format!("k{number}")}}),
            |(_, item)| item.clone(),
        );
        format!("{}\n", json!({"Item": item})).into_bytes()
    };
    (1..=60).flat_map(line).collect()
}

/// What is kept below a prefix: line and item, in order of the lines. Each has its object and a reason.
async fn kept(stage: &Stage, prefix: &str) -> Vec<(u64, Value)> {
    let mut kept = Vec::new();
    for key in stage.keys().await {
        assert!(key.starts_with(prefix), "{key}");
        let body = stage.bucket().read(&key).await.unwrap().unwrap();
        for line in body
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let line: Value = serde_json::from_slice(line).unwrap();
            assert_eq!(line["object"], "lines.json", "{line}");
            assert!(line["reason"].as_str().unwrap().len() > 10, "{line}");
            kept.push((line["line"].as_u64().unwrap(), line["item"].clone()));
        }
    }
    kept.sort_by_key(|(line, _)| *line);
    kept
}

/// The other items are loaded; what the table does not take is kept, whole, each with its line and a reason.
#[tokio::test(flavor = "multi_thread")]
async fn items_that_the_table_does_not_take_are_kept_whole() {
    let bad = bad_items();
    let place = format!("s3://{BUCKET}/kept");
    let into_new = ["--key", "pk:S"];
    let replacing = ["--into-existing", "--allow-overwrite"];
    for more in [&into_new[..], &replacing[..1], &replacing] {
        let stage = Stage::start().await;
        let lines = file(&stage, "lines.json", &lines_with(&bad));
        if more != into_new {
            let table = NewTable::new(TARGET, KeyShape::STRING);
            table.create(&stage.direct).await.unwrap();
        }
        let begin = [
            "restore",
            lines.to_str().unwrap(),
            "--to",
            TARGET,
            "--rejects",
            &place,
            "--json",
        ];
        let told = stage.run(&[&begin[..], more].concat()).await;
        assert_eq!(told.code, Some(1), "{told:#?}");
        let result = told.json();
        assert_accounted_for(&result);
        let counts = (total(&result, "read"), total(&result, "rejected"));
        assert_eq!(counts, (60, 7), "{result}");
        assert_eq!(items_of(&stage, TARGET).await.len(), 53);
        assert!(
            result["rejects"].as_str().unwrap().starts_with(&place),
            "{result}"
        );
        let error: Value = serde_json::from_str(told.stderr.lines().last().unwrap()).unwrap();
        assert_eq!(error["error"], "ItemRejected");
        assert!(
            error["message"].as_str().unwrap().starts_with("7 items"),
            "{error}"
        );
        assert_eq!(kept(&stage, "kept/").await, bad);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fail_fast_stops_at_the_first_item_that_is_not_taken() {
    let stage = Stage::start().await;
    let mut text = lines(40);
    text.extend_from_slice(b"{\"Item\":{\"pk\":{\"N\":\"7\"}}}\n");
    text.extend_from_slice(&lines(40));
    let lines = file(&stage, "lines.json", &text);
    let kept = format!("file://{}", stage.folder.path().join("kept").display());
    let told = stage
        .run(&restore_lines(
            &lines,
            "pk:S",
            &["--fail-fast", "--rejects", &kept],
        ))
        .await;
    let told = told.failed(1, &["lines.json", "line 41", "pk"]);
    told.hinted("--fail-fast");
    assert!(!stage.folder.path().join("kept").exists());
    assert!(items_of(&stage, TARGET).await.len() <= 40);
}
