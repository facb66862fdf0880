//! Text that comes from files, on one harmless line.

/// Longest label and message on a line, in characters.
pub const LABEL_WIDTH: usize = 80;
pub const MESSAGE_WIDTH: usize = 400;

/// `text` on one line of at most `width` characters, without what could steer a terminal: control
/// characters and those that change the direction of text are replaced.
pub fn sanitise(text: &str, width: usize) -> String {
    let harmless = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    let mut line: String = text.trim().chars().take(width + 1).map(harmless).collect();
    if let Some((cut, _)) = line.char_indices().nth(width) {
        line.truncate(cut);
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_steer_the_terminal() {
        assert_eq!(
            sanitise("a\x1b[2Jb\x07\u{202e}c\u{9b}", 80),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}"
        );
        assert_eq!(sanitise(" a\nb\tc ", 80), "a b c");
        assert_eq!(sanitise("abcdef", 6), "abcdef");
        assert_eq!(sanitise("abcdefg", 6), "abcde…");
        assert_eq!(sanitise(&"é".repeat(1000), 5), "éééé…");
    }
}
