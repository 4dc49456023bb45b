//! Tables and cards.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::Value;

use super::style::{Paint, Tone};
use super::view::{Column, View};

/// Items as rows under a line of titles.
pub(super) fn rows(view: &View, items: &[Value], wide: bool, paint: Paint) -> String {
    let columns: Vec<&Column> = view.columns.iter().filter(|column| column.is_listed(wide)).collect();
    let mut table = plain(paint);
    table.set_header(columns.iter().map(|column| Cell::new(column.title().to_uppercase())));
    for item in items {
        table.add_row(columns.iter().map(|column| {
            let (text, tone) = column.cell(item);
            cell(&one_line(&text), tone)
        }));
    }
    trimmed(&table)
}

/// One item as lines of title and value; what it does not have is left out.
pub(super) fn card(view: &View, item: &Value, paint: Paint) -> String {
    let mut table = plain(paint);
    for column in view.columns {
        let (text, tone) = column.entry(item);
        if !text.is_empty() {
            table.add_row([Cell::new(column.title()), cell(&text, tone)]);
        }
    }
    trimmed(&table)
}

fn plain(paint: Paint) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    if paint.0 {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

fn cell(text: &str, tone: Tone) -> Cell {
    match tone.color() {
        Some(color) => Cell::new(text).fg(Color::AnsiValue(color as u8)),
        None => Cell::new(text),
    }
}

/// A list has one line for each item, whatever its fields hold.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\t'], " ")
}

fn trimmed(table: &Table) -> String {
    table.lines().map(|line| format!("{}\n", line.trim_end().strip_prefix(' ').unwrap_or(line.trim_end()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ui::Kind;
    use serde_json::json;

    const VIEW: View = View {
        plural: "things",
        name: "name",
        columns: &[
            Column::new("name", "/name", Kind::Text),
            Column::new("status", "/status", Kind::Status),
            Column::new("tags", "/tags", Kind::Text).wide(),
        ],
    };

    #[test]
    fn a_list_has_one_line_for_each_item() {
        let items = [json!({"name": "a\nb", "status": "ok"}), json!({"name": "web-1", "status": "failed"})];
        assert_eq!(rows(&VIEW, &items, false, Paint(false)), "NAME   STATUS\na b    ok\nweb-1  failed\n");
    }

    #[test]
    fn a_list_shows_the_beginning_of_a_long_text_and_a_card_the_whole() {
        const LONG: View =
            View { plural: "things", name: "name", columns: &[Column::new("targets", "/targets", Kind::Long)] };
        let item = json!({"targets": "ä".repeat(61)});
        assert_eq!(
            rows(&LONG, std::slice::from_ref(&item), false, Paint(false)),
            format!("TARGETS\n{}…\n", "ä".repeat(60))
        );
        assert_eq!(card(&LONG, &item, Paint(false)), format!("targets  {}\n", "ä".repeat(61)));
    }

    #[test]
    fn a_card_leaves_out_what_is_not_there() {
        let item = json!({"name": "web-1", "status": null, "tags": ["a", "b"]});
        assert_eq!(card(&VIEW, &item, Paint(false)), "name  web-1\ntags  a,b\n");
    }

    #[test]
    fn what_others_wrote_cannot_reach_the_terminal() {
        let text = card(&VIEW, &json!({"name": "\x1b[2J"}), Paint(false));
        assert_eq!(text, "name  \\u{1b}[2J\n");
    }
}
