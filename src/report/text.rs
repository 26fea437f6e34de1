//! Makes foreign text safe to show.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Whether a character does more than appear: controls, marks that change the direction of text, separators that some
/// programs take for line ends, and invisible ones.
fn acts(character: char) -> bool {
    let plain = matches!(character, '\n' | '\t');
    let acting = character.is_control()
        || matches!(character, '\u{61c}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{fff9}'..='\u{fffb}')
        || matches!(character, '\u{e0000}'..='\u{e007f}');
    acting && !plain
}

/// The text with every such character escaped, such as `\u{1b}`. Windows line ends become plain ones.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    if !text.chars().any(acts) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            acting if acts(acting) => {
                let _ = write!(safe, "{}", acting.escape_unicode());
            }
            plain => safe.push(plain),
        }
    }
    Cow::Owned(safe)
}

/// The text on one line of at most `width` characters; blanks are run together.
pub(crate) fn one_line(text: &str, width: usize) -> String {
    let safe = harmless(text);
    let mut line = String::new();
    let mut length = 0;
    for word in safe.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
            length += 1;
        }
        for character in word.chars() {
            if length >= width {
                line.push('…');
                return line;
            }
            line.push(character);
            length += 1;
        }
    }
    line
}

/// A name on one line of at most `width` characters. A longer one keeps both ends, because the last word often distinguishes it.
pub(crate) fn name(text: &str, width: usize) -> String {
    let line = one_line(text, usize::MAX);
    let length = line.chars().count();
    if length <= width {
        return line;
    }
    let end = width / 2;
    let head = width.saturating_sub(end + 1);
    line.chars().take(head).chain(['…']).chain(line.chars().skip(length - end)).collect()
}

/// At most `limit` bytes of a text, or a few less: its beginning and its end, and in between how much is left out. The second
/// value says whether anything is.
pub(crate) fn cut(text: &str, limit: usize) -> (Cow<'_, str>, bool) {
    if text.len() <= limit {
        return (Cow::Borrowed(text), false);
    }
    let (mut head, mut tail) = (limit * 2 / 3, text.len() - limit / 3);
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    (Cow::Owned(format!("{}\n[{} bytes left out]\n{}", &text[..head], tail - head, &text[tail..])), true)
}

/// The text as at most `lines` lines of at most `width` characters, its beginning and its end.
pub(crate) fn excerpt(text: &str, lines: usize, width: usize) -> Vec<String> {
    let all: Vec<&str> = text.trim_matches('\n').lines().collect();
    let shown = |line: &&str| {
        let line = line.trim_end();
        match line.char_indices().nth(width) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_string(),
        }
    };
    if all.len() <= lines.max(1) {
        return all.iter().map(shown).collect();
    }
    let head = lines.saturating_sub(1).div_ceil(2);
    let tail = lines.saturating_sub(1) - head;
    let mut excerpt: Vec<String> = all[..head].iter().map(shown).collect();
    excerpt.push(format!("[{} lines left out]", all.len() - head - tail));
    excerpt.extend(all[all.len() - tail..].iter().map(shown));
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_acts_is_spelt_out_and_all_else_stays() {
        for (given, shown) in [
            ("plain\tÜ 日本 👩‍💻\n", "plain\tÜ 日本 👩‍💻\n"),
            ("a\r\nb\rc", "a\nb\\u{d}c"),
            ("\u{1b}[31mred\u{7}\u{9b}", "\\u{1b}[31mred\\u{7}\\u{9b}"),
            ("\u{202e}txt.exe\u{2066}\u{200f}", "\\u{202e}txt.exe\\u{2066}\\u{200f}"),
            ("\u{feff}a\u{2028}b\u{200b}\u{e0041}", "\\u{feff}a\\u{2028}b\\u{200b}\\u{e0041}"),
        ] {
            assert_eq!(harmless(given), shown);
        }
    }

    #[test]
    fn lines_are_cut_at_characters() {
        assert_eq!(one_line("  a\n\n b\u{1b} ", 99), "a b\\u{1b}");
        assert_eq!(one_line("ÜÜÜÜ", 2), "ÜÜ…");
        assert_eq!((name("a/b\n-17", 8).as_str(), name("ÜÜÜÜ/task-17", 8).as_str()), ("a/b -17", "ÜÜÜ…k-17"));
        assert_eq!(excerpt("1\n2\n3\n4\n5\n6", 4, 9), ["1", "2", "[3 lines left out]", "6"]);
        assert_eq!(excerpt("\nÜÜÜ\n", 4, 2), ["ÜÜ…"]);
        assert_eq!(excerpt("", 4, 2), Vec::<String>::new());
    }

    #[test]
    fn long_texts_keep_both_ends() {
        let text = format!("begin{}end", "Ü".repeat(500));
        let (short, is_cut) = cut(&text, 90);
        assert!(is_cut && short.starts_with("begin") && short.ends_with("end") && short.contains("bytes left out"));
        assert!(short.len() < 130, "{}", short.len());
        assert_eq!(cut("short", 90), ("short".into(), false));
    }
}
