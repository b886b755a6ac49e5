//! The names of tests in sources, for tables and documents that name them.

/// The names of all tests in a source file: functions close below an attribute that makes them one.
pub fn tests_in(source: &str) -> impl Iterator<Item = &str> {
    let lines: Vec<&str> = source.lines().collect();
    let name = move |place: usize| {
        let line: &str = lines.get(place)?.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        let (name, _) = line.strip_prefix("fn ")?.split_once('(')?;
        let mut above = lines.get(place.saturating_sub(4)..place)?.iter();
        let is_test = above.any(|it| it.trim_start().starts_with("#[") && it.contains("test"));
        is_test.then_some(name)
    };
    (0..source.lines().count()).filter_map(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_comment_is_no_test() {
        let names = |source| tests_in(source).collect::<Vec<&str>>();
        assert_eq!(names("#[test]\nfn case() {"), ["case"]);
        let paused = "    #[tokio::test(start_paused = true)]\n    async fn case() {";
        assert_eq!(names(paused), ["case"]);
        assert!(names("/// See `fn case()`.\nfn other() {").is_empty());
    }
}
