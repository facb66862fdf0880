//! Names of parameters: the reference's ("official") and timm's.
//!
//! The two differ in LayerScale (`gamma_1`, `ls1.gamma`) and in parallel blocks, where the reference
//! numbers further branches (`attn1`) and timm keeps lists of them (`attns.1.attn`). Everything else
//! is called the same.

/// Whose names a file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Naming {
    /// facebookresearch/deit, models_v2.py
    Official,
    /// timm, vision_transformer.py
    Timm,
}

impl Naming {
    /// In lower case, as the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Naming::Official => "official",
            Naming::Timm => "timm",
        }
    }
}

/// One part of a block.
struct Part {
    /// The reference's name of the first branch's.
    official: &'static str,
    /// Between that and the number of a further branch.
    separator: &'static str,
    /// timm's name in a block with one branch of each.
    single: &'static str,
    /// timm's list of branches, and the part's name in each of them.
    list: &'static str,
    of_list: &'static str,
}

const fn part(
    official: &'static str,
    separator: &'static str,
    single: &'static str,
    list: &'static str,
    of_list: &'static str,
) -> Part {
    Part {
        official,
        separator,
        single,
        list,
        of_list,
    }
}

/// The whole difference.
const PARTS: [Part; 6] = [
    part("norm1", "", "norm1", "attns", "norm"),
    part("attn", "", "attn", "attns", "attn"),
    part("gamma_1", "_", "ls1.gamma", "attns", "ls.gamma"),
    part("norm2", "", "norm2", "ffns", "norm"),
    part("mlp", "", "mlp", "ffns", "mlp"),
    part("gamma_2", "_", "ls2.gamma", "ffns", "ls.gamma"),
];

/// `blocks.3.attn.qkv.weight` as `blocks.3.` and the rest.
fn split(name: &str) -> Option<(&str, &str)> {
    let digits = name.strip_prefix("blocks.")?.find('.')?;
    let (block, rest) = name.split_at("blocks.".len() + digits + 1);
    Some((block, rest))
}

/// What follows `prefix` in `text`, if that is nothing or begins with a dot.
fn after<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let tail = text.strip_prefix(prefix)?;
    (tail.is_empty() || tail.starts_with('.')).then_some(tail)
}

/// A branch's number as text, without leading zeros; `None` for anything else.
fn number(text: &str) -> Option<usize> {
    let plain = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
    let canonical = plain && (text == "0" || !text.starts_with('0'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// A part of a block, its branch and what follows, of either naming, and whether the name is one
/// that only timm has.
fn read(rest: &str) -> Option<(&'static Part, usize, &str, bool)> {
    for part in &PARTS {
        if let Some(tail) = after(rest, part.single) {
            return Some((part, 0, tail, part.single != part.official));
        }
        if let Some(tail) = after(rest, part.official) {
            return Some((part, 0, tail, false));
        }
        let listed = rest
            .strip_prefix(part.list)
            .and_then(|rest| rest.strip_prefix('.'))
            .and_then(|rest| rest.split_once('.'));
        if let Some((branch, rest)) = listed
            && let Some(tail) = after(rest, part.of_list)
        {
            return Some((part, number(branch)?, tail, true));
        }
        let numbered = rest
            .strip_prefix(part.official)
            .and_then(|rest| rest.strip_prefix(part.separator));
        if let Some(rest) = numbered {
            let end = rest.find('.').unwrap_or(rest.len());
            let (branch, tail) = rest.split_at(end);
            if let Some(branch @ 1..) = number(branch) {
                return Some((part, branch, tail, false));
            }
        }
    }
    None
}

/// The official name of a parameter that goes by either name; what has no other name stays as it is.
pub fn official(name: &str) -> String {
    let Some((block, (part, branch, tail, _))) =
        split(name).and_then(|(block, rest)| Some((block, read(rest)?)))
    else {
        return name.to_owned();
    };
    if branch == 0 {
        format!("{block}{}{tail}", part.official)
    } else {
        format!("{block}{}{}{branch}{tail}", part.official, part.separator)
    }
}

/// timm's name of a parameter that goes by either name, in a model with `branches` of each kind in a
/// block.
pub fn timm(name: &str, branches: usize) -> String {
    let Some((block, (part, branch, tail, _))) =
        split(name).and_then(|(block, rest)| Some((block, read(rest)?)))
    else {
        return name.to_owned();
    };
    if branches == 1 {
        format!("{block}{}{tail}", part.single)
    } else {
        format!("{block}{}.{branch}.{}{tail}", part.list, part.of_list)
    }
}

/// Whose names these are; without LayerScale and parallel blocks the two are the same, which counts
/// as official.
pub fn naming<'a>(mut names: impl Iterator<Item = &'a str>) -> Naming {
    let only_timm = |name: &str| {
        split(name)
            .and_then(|(_, rest)| read(rest))
            .is_some_and(|read| read.3)
    };
    if names.any(only_timm) {
        Naming::Timm
    } else {
        Naming::Official
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (branches, official_name, timm_name) in [
            (1, "blocks.0.gamma_1", "blocks.0.ls1.gamma"),
            (1, "blocks.11.gamma_2", "blocks.11.ls2.gamma"),
            (1, "blocks.0.norm1.weight", "blocks.0.norm1.weight"),
            (1, "blocks.0.attn.qkv.bias", "blocks.0.attn.qkv.bias"),
            (1, "norm.weight", "norm.weight"),
            (1, "head.bias", "head.bias"),
            (2, "blocks.3.norm1.bias", "blocks.3.attns.0.norm.bias"),
            (2, "blocks.3.norm11.bias", "blocks.3.attns.1.norm.bias"),
            (
                2,
                "blocks.3.attn.qkv.bias",
                "blocks.3.attns.0.attn.qkv.bias",
            ),
            (
                2,
                "blocks.3.attn1.qkv.bias",
                "blocks.3.attns.1.attn.qkv.bias",
            ),
            (2, "blocks.3.gamma_1", "blocks.3.attns.0.ls.gamma"),
            (2, "blocks.3.gamma_1_1", "blocks.3.attns.1.ls.gamma"),
            (2, "blocks.3.norm2.weight", "blocks.3.ffns.0.norm.weight"),
            (2, "blocks.3.norm21.weight", "blocks.3.ffns.1.norm.weight"),
            (2, "blocks.3.mlp.fc1.bias", "blocks.3.ffns.0.mlp.fc1.bias"),
            (2, "blocks.3.mlp1.fc1.bias", "blocks.3.ffns.1.mlp.fc1.bias"),
            (2, "blocks.3.gamma_2", "blocks.3.ffns.0.ls.gamma"),
            (2, "blocks.3.gamma_2_1", "blocks.3.ffns.1.ls.gamma"),
            (3, "blocks.0.gamma_2_2", "blocks.0.ffns.2.ls.gamma"),
        ] {
            assert_eq!(timm(official_name, branches), timm_name);
            assert_eq!(official(timm_name), official_name);
            assert_eq!(official(official_name), official_name);
            assert_eq!(timm(timm_name, branches), timm_name);
            let expected = if timm_name.contains(".ls") || timm_name.contains("ns.") {
                Naming::Timm
            } else {
                Naming::Official
            };
            assert_eq!(naming([timm_name].into_iter()), expected, "{timm_name}");
            assert_eq!(naming([official_name].into_iter()), Naming::Official);
        }
        for foreign in [
            "blocks.0.attns.01.norm.bias",
            "blocks.0.attn01.x",
            "blocks.0.other",
            "blocks",
        ] {
            assert_eq!(official(foreign), foreign);
        }
    }
}
