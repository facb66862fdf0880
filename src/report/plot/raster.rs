//! PNG from SVG.

use super::{Plot, PlotError, font};
use resvg::{tiny_skia, usvg};

/// Device pixels per CSS pixel: 288 to the inch.
const SCALE: f32 = 3.0;

/// The plot as PNG, drawn from its SVG with the embedded font.
pub fn png(plot: &Plot) -> Result<Vec<u8>, PlotError> {
    let failed = |message: String| PlotError::Raster {
        plot: plot.name.clone(),
        message,
    };
    let tree = parse(&plot.svg).map_err(|error| failed(error.to_string()))?;
    let size = tree.size();
    let (width, height) = (
        (size.width() * SCALE).ceil() as u32,
        (size.height() * SCALE).ceil() as u32,
    );
    let mut pixmap = tiny_skia::Pixmap::new(width, height)
        .ok_or_else(|| failed(format!("{width} × {height} pixels are too many")))?;
    resvg::render(
        &tree,
        tiny_skia::Transform::from_scale(SCALE, SCALE),
        &mut pixmap.as_mut(),
    );
    pixmap
        .encode_png()
        .map_err(|error| failed(error.to_string()))
}

/// The SVG as usvg understands it, with the embedded font alone.
pub fn parse(svg: &str) -> Result<usvg::Tree, usvg::Error> {
    let options = usvg::Options {
        fontdb: font::database(),
        font_family: "Ablate Sans".to_owned(),
        ..usvg::Options::default()
    };
    usvg::Tree::from_str(svg, &options)
}
