//! A document of sections between marks, of which one is replaced and the others stay.

/// The document with this section in the place of the one of its name; behind all others if there is none yet.
///
/// A section stands between `<!-- NAME: begin … -->` and `<!-- NAME: end -->`, each on a line of its own. `None` if the
/// document has only one of the two marks, or them in the wrong order: nothing of it should be overwritten then.
#[must_use]
pub fn with_section(document: &str, name: &str, section: &str) -> Option<String> {
    let begin = format!("<!-- {name}: begin -->\n");
    let end = format!("<!-- {name}: end -->\n");
    let whole = format!("{begin}\n{}\n\n{end}", section.trim());
    let (first, last) = (document.find(&begin), document.find(&end));
    match (first, last) {
        (None, None) => {
            let before = document.trim_end();
            let gap = if before.is_empty() { "" } else { "\n\n" };
            Some(format!("{before}{gap}{whole}"))
        }
        (Some(first), Some(last)) if first < last => {
            let before = document.get(..first)?;
            let behind = document.get(last + end.len()..)?;
            Some(format!("{before}{whole}{behind}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_section_is_replaced_and_all_else_stays() {
        let first = with_section("# Title\n\nWords.\n", "a", "one\n").unwrap();
        assert_eq!(
            first,
            "# Title\n\nWords.\n\n<!-- a: begin -->\n\none\n\n<!-- a: end -->\n"
        );
        let both = with_section(&first, "b", "two").unwrap();
        assert!(both.starts_with(first.trim_end()), "{both}");
        let again = with_section(&both, "a", "three").unwrap();
        assert_eq!(again, both.replace("one", "three"));
        assert_eq!(with_section(&again, "b", "two").as_deref(), Some(&*again));
        assert_eq!(
            with_section("", "a", "x").unwrap(),
            "<!-- a: begin -->\n\nx\n\n<!-- a: end -->\n"
        );
    }

    #[test]
    fn a_broken_frame_is_left_alone() {
        for document in [
            "<!-- a: begin -->\nx\n",
            "x\n<!-- a: end -->\n",
            "<!-- a: end -->\n<!-- a: begin -->\n",
        ] {
            assert_eq!(with_section(document, "a", "y"), None, "{document}");
        }
        assert!(with_section("<!-- b: begin -->\n", "a", "y").is_some());
    }
}
