//! Lists: order, starts, limits, and walks over page borders.

use aws_sdk_dynamodb::types::AttributeValue::S;

use crate::engine::*;

async fn names(records: &Partition, list: List) -> Vec<String> {
    let page = records.list(&list).await.unwrap();
    page.records
        .iter()
        .map(|record| record.name().to_owned())
        .collect()
}

#[tokio::test]
async fn a_list_starts_behind_a_name_whether_or_not_it_exists() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    for name in ["a", "b/1", "b/2", "b/3", "c"] {
        records.put(name, Write::text(name)).await.unwrap();
    }
    let all = List::new;
    let b = || List::new().prefix("b/");
    for (list, expected) in [
        (all().after("b/1"), vec!["b/2", "b/3", "c"]),
        (all().after("b/15"), vec!["b/2", "b/3", "c"]),
        (all().after("c"), vec![]),
        (all().after(""), vec!["a", "b/1", "b/2", "b/3", "c"]),
        (b().after("b/1"), vec!["b/2", "b/3"]),
        (b().after("b/1").limit(1), vec!["b/2"]),
        (b().after("b/"), vec!["b/1", "b/2", "b/3"]),
        (b().after("a"), vec!["b/1", "b/2", "b/3"]),
        (b().after("c"), vec![]),
        (all().descending().after("b/2"), vec!["b/1", "a"]),
        (
            all().descending().after("zzz"),
            vec!["c", "b/3", "b/2", "b/1", "a"],
        ),
        (all().descending().after(""), vec![]),
        (b().descending().after("c"), vec!["b/3", "b/2", "b/1"]),
        (b().descending().after("b/2"), vec!["b/1"]),
        (b().descending().after("a"), vec![]),
        (b().descending().after("b/"), vec![]),
    ] {
        assert_eq!(names(&records, list.clone()).await, expected, "{list:?}");
    }
    let by_index = List::new().index(Index::local("i", "f")).after("a");
    assert!(matches!(
        records.list(&by_index).await,
        Err(Error::Index { .. })
    ));
}

#[tokio::test]
async fn names_are_ordered_by_their_bytes() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    let mut expected = vec![
        "B",
        "a",
        "a!",
        "a/",
        "aa",
        "z",
        "é",
        "\u{ffee}",
        "\u{1f600}",
    ];
    for name in expected.iter().rev() {
        records.put(name, Write::new()).await.unwrap();
    }
    assert_eq!(names(&records, List::new()).await, expected);
    expected.reverse();
    assert_eq!(names(&records, List::new().descending()).await, expected);
}

#[tokio::test]
async fn a_walk_gives_every_record_once_over_page_borders() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    let expected: Vec<_> = (0..25).map(|number| format!("n{number:02}")).collect();
    for name in &expected {
        records.put(name, Write::text(name)).await.unwrap();
    }
    table
        .partition("q")
        .put("n00x", Write::new())
        .await
        .unwrap();
    for limit in [1, 2, 5, 24, 25, 26] {
        let mut walk = records.records(List::new().prefix("n").limit(limit));
        let mut seen = Vec::new();
        while let Some(record) = walk.next().await.unwrap() {
            seen.push(record.name().to_owned());
        }
        assert_eq!(seen, expected, "pages of {limit}");
        assert_eq!(walk.next().await.unwrap(), None);
    }
    let mut walk = records.records(List::new().after("n20").limit(2));
    assert_eq!(walk.next().await.unwrap().unwrap().name(), "n21");
}

#[tokio::test]
async fn a_list_without_limit_reads_past_the_megabyte_of_one_answer() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    for number in 0..5 {
        let write = Write::bytes(vec![number; 350 * 1024]);
        records.put(&number.to_string(), write).await.unwrap();
    }
    let page = records.list(&List::new()).await.unwrap();
    assert!(page.records.len() < 5 && page.next.is_some());
    // With a limit the page is filled up.
    assert_eq!(names(&records, List::new().limit(5)).await.len(), 5);
    let mut walk = records.records(List::new());
    let mut count = 0;
    while walk.next().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 5);
}

#[tokio::test]
async fn delete_prefix_deletes_what_begins_so_and_nothing_else() {
    let (_engine, table) = fresh_table().await;
    let records = table.partition("p");
    for number in 0..60 {
        let write = Write::text("v");
        let write = if number % 2 == 0 {
            write
        } else {
            write.expires_at(1)
        };
        records.put(&format!("a/{number}"), write).await.unwrap();
    }
    for (partition, name) in [("p", "a"), ("p", "b"), ("q", "a/1")] {
        table
            .partition(partition)
            .put(name, Write::new())
            .await
            .unwrap();
    }
    assert_eq!(records.delete_prefix("a/").await.unwrap(), 60);
    assert_eq!(records.delete_prefix("a/").await.unwrap(), 0);
    assert_eq!(names(&records, List::new()).await, ["a", "b"]);
    assert_eq!(records.delete_prefix("").await.unwrap(), 2);
    assert!(table.partition("q").exists("a/1").await.unwrap());
}

#[tokio::test]
async fn an_item_that_is_no_record_is_named_and_not_skipped() {
    let (_engine, table) = fresh_table().await;
    let put = table.store().client().put_item().table_name("kv-table");
    let put = put.item("id", S("p".into())).item("name", S("n".into()));
    put.send().await.unwrap();
    let result = table.partition("p").list(&List::new()).await;
    assert!(
        matches!(&result, Err(Error::Malformed { key, attribute: "version", .. }) if key.name == "n"),
        "{result:?}"
    );
}
