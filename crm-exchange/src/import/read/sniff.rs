//! Guesses about a file: its delimiter, and where its header is.

use super::Cell;

/// The delimiters that are looked for.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The delimiter of a text, and whether its first line is Excel's `sep=` that says so.
pub(crate) fn delimiter(sample: &str) -> (u8, bool) {
    let first = sample.lines().next().unwrap_or_default();
    if let Some(said) = first.strip_prefix("sep=")
        && let [delimiter] = said.as_bytes()
    {
        return (*delimiter, true);
    }
    let mut best = (b',', 0.0);
    for delimiter in DELIMITERS {
        let score = consistency(sample, delimiter);
        if score > best.1 {
            best = (delimiter, score);
        }
    }
    (best.0, false)
}

/// How well a delimiter cuts all rows into the same number of cells; 0 where it cuts nothing.
fn consistency(sample: &str, delimiter: u8) -> f64 {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(delimiter)
        .from_reader(sample.as_bytes());
    let widths: Vec<usize> = reader
        .records()
        .filter_map(|record| record.ok().map(|record| record.len()))
        .take(200)
        .collect();
    let count = |width: usize| widths.iter().filter(|other| **other == width).count();
    let usual = widths
        .iter()
        .copied()
        .max_by_key(|width| (count(*width), *width));
    let Some(usual) = usual.filter(|usual| *usual > 1) else {
        return 0.0;
    };
    let share = count(usual) as f64 / widths.len() as f64;
    // The header is cut like the rows.
    let header = if widths.first() == Some(&usual) {
        1.0
    } else {
        0.5
    };
    share * share * header * (1.0 + usual as f64).ln()
}

/// The place of the header among the first rows: the first that fills at least half of the table's
/// width. `None` where that row already holds data, such as a number or an e-mail address.
pub(crate) fn header(rows: &[&[Cell]]) -> Option<usize> {
    let filled = |row: &[Cell]| row.iter().filter(|cell| !cell.is_empty()).count();
    let width = rows.iter().map(|row| filled(row)).max()?;
    let place = rows.iter().position(|row| 2 * filled(row) >= width)?;
    let is_data = rows.get(place)?.iter().any(looks_like_data);
    (!is_data).then_some(place)
}

/// Whether a cell is what a header never is.
fn looks_like_data(cell: &Cell) -> bool {
    match cell {
        Cell::Empty | Cell::Fault | Cell::Garbled(_) => false,
        Cell::Number(_) | Cell::Boolean(_) | Cell::Moment(_) => true,
        Cell::Text(text) => {
            let text = text.trim();
            looks_like_email(text)
                || text.starts_with("http://")
                || text.starts_with("https://")
                || looks_like_number(text)
        }
    }
}

/// Whether a text is probably an e-mail address.
pub(crate) fn looks_like_email(text: &str) -> bool {
    let mut parts = text.split('@');
    let (Some(local), Some(domain), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    !local.is_empty() && domain.contains('.') && !text.contains(char::is_whitespace)
}

/// Whether a text is made of digits and what stands between them in numbers, dates and telephone
/// numbers.
fn looks_like_number(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || " .,:/+-()%€$£'".contains(c))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimal_commas_do_not_mislead() {
        let text = "name;amount\nGlobex;1,5\nInitech, Inc.;2,75\n";
        assert_eq!(delimiter(text), (b';', false));
        assert_eq!(delimiter("sep=|\na,b|c\n"), (b'|', true));
        assert_eq!(delimiter("name\nGlobex\n"), (b',', false));
    }

    #[test]
    fn a_title_is_no_header_and_data_is_none() {
        let row = |texts: &[&str]| -> Vec<Cell> {
            let cell = |text: &&str| Cell::from(*text);
            texts.iter().map(cell).collect()
        };
        let rows = [
            row(&["Leads 2026", "", ""]),
            row(&["Company", "E-mail", "Phone"]),
            row(&["Globex", "a@globex.example", ""]),
        ];
        let rows: Vec<&[Cell]> = rows.iter().map(Vec::as_slice).collect();
        assert_eq!(header(&rows), Some(1));
        assert_eq!(header(&rows[2..]), None);
    }

    proptest! {
        #[test]
        fn the_delimiter_of_a_written_table_is_found(
            rows in prop::collection::vec(prop::collection::vec("[a-zäö \"\n]{1,8}", 3), 2..20),
            delimiter_at in 0..DELIMITERS.len(),
        ) {
            let wanted = DELIMITERS[delimiter_at];
            let mut writer = csv::WriterBuilder::new().delimiter(wanted).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).unwrap();
            }
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            prop_assert_eq!(delimiter(&text).0, wanted);
        }
    }
}
