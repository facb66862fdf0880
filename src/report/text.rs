//! Words of the experiment file on their way into a rendering.

pub use crate::spec::problem::is_invisible as is_unsafe;

/// `text` on one line and without anything that could move the cursor, change colours, reverse the
/// direction of writing or hide: such characters become `\u{…}`, line breaks a space.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if is_unsafe(c) => out.push_str(&format!("\\u{{{:x}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

/// First letter in upper case.
pub fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn nothing_invisible_or_active_passes() {
        assert_eq!(clean("a\nb\tc"), "a b c");
        assert_eq!(clean("\u{1b}[31mred\u{7}"), "\\u{1b}[31mred\\u{7}");
        assert_eq!(
            clean("x\u{202e}y\u{200f}\u{2066}\u{feff}"),
            "x\\u{202e}y\\u{200f}\\u{2066}\\u{feff}"
        );
        assert_eq!(clean("Größe α ± ≤ 模型"), "Größe α ± ≤ 模型");
    }
}
