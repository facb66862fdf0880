//! Which GPUs the user lets us use: `CUDA_VISIBLE_DEVICES`, read as the CUDA driver reads it.
//!
//! Entries are positions, beginnings of UUIDs (`GPU-5a…`) or instances (`MIG-…`). As in CUDA the list ends
//! at the first entry that is no device; an empty list or a leading `-1` hides all. Source: CUDA
//! Programming Guide, "CUDA Environment Variables".

use super::gpus::Gpu;

/// The usable ones of `gpus` in the order of the variable's value, and what is odd about that value.
/// Without the variable: all, the instances of a divided GPU in its place.
///
/// Positions are those of `nvidia-smi` (PCI order). CUDA itself counts the fastest first unless
/// `CUDA_DEVICE_ORDER` (`order`) says `PCI_BUS_ID`; where the models differ the two may disagree, and that
/// is said.
pub fn visible(
    gpus: &[Gpu],
    variable: Option<&str>,
    order: Option<&str>,
) -> (Vec<Gpu>, Vec<String>) {
    let mut warnings = Vec::new();
    let Some(list) = variable else {
        let usable = gpus.iter().filter(|gpu| !gpu.divided).cloned().collect();
        return (usable, warnings);
    };
    let mut found: Vec<Gpu> = Vec::new();
    let mut by_position = false;
    for entry in list.split(',').map(str::trim) {
        if entry.is_empty() && list.trim().is_empty() || entry == "-1" || entry == "NoDevFiles" {
            break;
        }
        let gpu = match entry.parse::<u32>() {
            Ok(position) => {
                by_position = true;
                at(gpus, position)
            }
            Err(_) => by_uuid(gpus, entry),
        };
        let Some(gpu) = gpu else {
            warnings.push(format!(
                "CUDA_VISIBLE_DEVICES: `{entry}` is no GPU of this machine; like CUDA, nothing from there \
                 on is used (`ablate devices` lists them)"
            ));
            break;
        };
        if found.iter().any(|known| known.uuid == gpu.uuid) {
            warnings.push(format!(
                "CUDA_VISIBLE_DEVICES: `{entry}` is there twice; it is used once"
            ));
        } else {
            found.push(gpu.clone());
        }
    }
    let models = |gpu: &&Gpu| gpu.parent.is_none();
    let mut names: Vec<&str> = gpus.iter().filter(models).map(|gpu| &*gpu.name).collect();
    names.dedup();
    if by_position && names.len() > 1 && order != Some("PCI_BUS_ID") {
        warnings.push(
            "CUDA_VISIBLE_DEVICES: the GPUs differ, and positions are taken as nvidia-smi counts \
             (CUDA_DEVICE_ORDER=PCI_BUS_ID); UUIDs leave no doubt"
                .to_owned(),
        );
    }
    (found, warnings)
}

/// The GPU at a position; of a divided one CUDA takes the first instance.
fn at(gpus: &[Gpu], position: u32) -> Option<&Gpu> {
    let whole = gpus
        .iter()
        .find(|gpu| gpu.parent.is_none() && gpu.index == position)?;
    match whole.divided {
        true => gpus
            .iter()
            .find(|gpu| gpu.parent.as_deref() == Some(&whole.uuid)),
        false => Some(whole),
    }
}

/// The GPU or instance whose UUID begins so, if it is only one.
fn by_uuid<'g>(gpus: &'g [Gpu], beginning: &str) -> Option<&'g Gpu> {
    if !beginning.starts_with("GPU-") && !beginning.starts_with("MIG-") {
        return None;
    }
    let mut found = gpus
        .iter()
        .filter(|gpu| !gpu.divided && gpu.uuid.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(gpu), None) => Some(gpu),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gpu(uuid: &str, name: &str, index: u32, parent: Option<&str>, divided: bool) -> Gpu {
        Gpu {
            uuid: uuid.into(),
            name: name.into(),
            index,
            pci: None,
            memory: 1 << 30,
            parent: parent.map(str::to_owned),
            divided,
        }
    }

    fn machine() -> Vec<Gpu> {
        vec![
            gpu("GPU-5a11", "H100", 0, None, false),
            gpu("GPU-5b22", "H100", 1, None, false),
            gpu("GPU-7c33", "H100", 2, None, true),
            gpu("MIG-aa", "H100 1g", 2, Some("GPU-7c33"), false),
            gpu("MIG-ab", "H100 1g", 2, Some("GPU-7c33"), false),
        ]
    }

    #[track_caller]
    fn expect(variable: Option<&str>, uuids: &[&str], warnings: usize) {
        let (found, warned) = visible(&machine(), variable, None);
        let found: Vec<&str> = found.iter().map(|gpu| &*gpu.uuid).collect();
        assert_eq!(found, uuids);
        assert_eq!(warned.len(), warnings, "{warned:?}");
    }

    #[test]
    fn the_variable_is_read_as_cuda_reads_it() {
        expect(None, &["GPU-5a11", "GPU-5b22", "MIG-aa", "MIG-ab"], 0);
        expect(Some(""), &[], 0);
        expect(Some(" "), &[], 0);
        expect(Some("-1"), &[], 0);
        expect(Some("1, 0"), &["GPU-5b22", "GPU-5a11"], 0);
        expect(Some("1,-1,0"), &["GPU-5b22"], 0);
        expect(Some("1,9,0"), &["GPU-5b22"], 1);
        expect(Some("1,1"), &["GPU-5b22"], 1);
        expect(Some("2"), &["MIG-aa"], 0);
        expect(Some("GPU-5b,MIG-ab"), &["GPU-5b22", "MIG-ab"], 0);
        // Two begin so, and a divided one can't be used as a whole.
        expect(Some("GPU-5"), &[], 1);
        expect(Some("GPU-7c33"), &[], 1);
        expect(Some("nonsense"), &[], 1);
    }

    #[test]
    fn positions_among_different_models_are_doubtful() {
        let two = [
            gpu("GPU-a", "A", 0, None, false),
            gpu("GPU-b", "B", 1, None, false),
        ];
        assert_eq!(visible(&two, Some("0"), None).1.len(), 1);
        assert_eq!(visible(&two, Some("0"), Some("PCI_BUS_ID")).1.len(), 0);
        assert_eq!(visible(&two, Some("GPU-a"), None).1.len(), 0);
    }
}
