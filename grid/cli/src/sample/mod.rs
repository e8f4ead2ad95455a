//! The sample files, made rather than drawn, so that they can be made again.

mod arena;
mod catalogue;

pub(crate) use arena::venue;
pub(crate) use catalogue::lots;

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_committed_samples_are_these() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../samples");
        for (name, made) in [
            ("arena.json", super::venue().expect("made")),
            ("lots.csv", super::lots().expect("made")),
        ] {
            let committed = std::fs::read_to_string(folder.join(name)).expect("committed");
            assert!(
                committed == made,
                "run `grid sample` and write samples/{name} anew"
            );
        }
    }
}
