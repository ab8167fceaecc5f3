//! An export as a page to read: pure.

use std::fmt::Write as _;

use serde_json::Value as Json;

use super::export::{AccessExport, HeldRecord, HistoryChange, moment};

/// How the page looks; nothing is loaded from elsewhere, which its policy forbids as well.
const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
<meta name=\"referrer\" content=\"no-referrer\">\n\
<title>What is held about you</title>\n<style>\n\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\n\
table{border-collapse:collapse;width:100%;margin:.5rem 0 1rem}\n\
th,td{border:1px solid #ccc;padding:.3rem .6rem;text-align:left;vertical-align:top;overflow-wrap:anywhere}\n\
th{width:14rem;font-weight:600;background:#f6f6f6}td{white-space:pre-wrap}\n\
section{margin-top:2.5rem}article{margin:1.5rem 0}.why,.id{color:#555}.id{font-family:monospace}\n\
</style>\n</head>\n<body>\n";

/// The page.
pub(super) fn page(export: &AccessExport) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("<h1>What is held about you</h1>\n");
    let records = export.record_count();
    let noun = if records == 1 { "record" } else { "records" };
    let _ = writeln!(
        page,
        "<p>As of <time>{}</time>: {records} {noun}.</p>\n<nav><ul>",
        moment(export.created_at)
    );
    for (number, group) in export.groups.iter().enumerate() {
        let _ = writeln!(
            page,
            "<li><a href=\"#g{number}\">{}</a> ({})</li>",
            escaped(&group.label),
            group.records.len()
        );
    }
    page.push_str("</ul></nav>\n");
    for (number, group) in export.groups.iter().enumerate() {
        let _ = writeln!(
            page,
            "<section id=\"g{number}\">\n<h2>{}</h2>",
            escaped(&group.label)
        );
        if !group.help.is_empty() {
            let _ = writeln!(page, "<p>{}</p>", escaped(&group.help));
        }
        for held in &group.records {
            record(&mut page, held);
        }
        page.push_str("</section>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn record(page: &mut String, held: &HeldRecord) {
    let _ = writeln!(
        page,
        "<article>\n<h3 class=\"id\">{}</h3>\n<p class=\"why\">{}",
        held.id,
        escaped(held.why.text)
    );
    for (said, at) in [
        ("Created", held.created_at),
        ("Changed", held.updated_at),
        ("Deleted", held.deleted_at),
    ] {
        if let Some(at) = at {
            let _ = write!(page, " {said} <time>{}</time>.", moment(at));
        }
    }
    page.push_str("</p>\n");
    if !held.fields.is_empty() {
        page.push_str("<table>\n");
        for field in &held.fields {
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\">{}</th><td>{}</td></tr>",
                escaped(&field.label),
                escaped(&text(&field.value))
            );
        }
        page.push_str("</table>\n");
    }
    if !held.history.is_empty() {
        page.push_str("<details><summary>History</summary>\n<table>\n");
        for entry in &held.history {
            let changes: Vec<String> = entry.changes.iter().map(change).collect();
            let _ = writeln!(
                page,
                "<tr><th scope=\"row\"><time>{}</time> {}</th><td>{}</td></tr>",
                moment(entry.at),
                escaped(&entry.event),
                escaped(&changes.join("\n"))
            );
        }
        page.push_str("</table>\n</details>\n");
    }
    page.push_str("</article>\n");
}

fn change(change: &HistoryChange) -> String {
    let side = |value: &Json| match value {
        Json::Null => "(empty)".to_owned(),
        value => text(value),
    };
    format!(
        "{}: {} → {}",
        change.label,
        side(&change.old),
        side(&change.new)
    )
}

/// A value as people read it.
fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Bool(true) => "yes".to_owned(),
        Json::Bool(false) => "no".to_owned(),
        Json::Array(items)
            if items
                .iter()
                .all(|item| !item.is_object() && !item.is_array()) =>
        {
            let items: Vec<String> = items.iter().map(text).collect();
            items.join(", ")
        }
        Json::Array(_) | Json::Object(_) => serde_json::to_string_pretty(value).unwrap_or_default(),
        other => other.to_string(),
    }
}

/// A text as it stands between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // What turns the direction of a line could make it read as another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.push('\u{fffd}'),
            letter => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing that a person wrote becomes part of the page.
    #[test]
    fn hostile_values_are_texts() {
        for hostile in [
            "<script>alert(1)</script>",
            "\"><img src=x onerror=alert(1)>",
            "' onmouseover='alert(1)",
            "</td></table><h1>",
            "&lt;b&gt;",
        ] {
            let safe = escaped(hostile);
            assert!(!safe.contains(['<', '>', '"', '\'']), "{safe}");
        }
        assert_eq!(escaped("&lt;"), "&amp;lt;");
        assert_eq!(escaped("a\u{202e}b"), "a\u{fffd}b");
    }
}
