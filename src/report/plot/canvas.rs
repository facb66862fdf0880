//! Pen and paper: plotters' SVG backend behind lengths in CSS pixels.
//!
//! Plotters places everything on whole units, so it draws on paper ten times as fine as a CSS pixel and
//! the SVG's `viewBox` scales it back.

use super::PlotError;
use super::font;
use super::style::{self, Dash, Look, Mark};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, DashedPathElement, Drawable, PathElement, Polygon, Rectangle};
use plotters::prelude::SVGBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, FontTransform, RGBColor, ShapeStyle, TextStyle,
};

/// Units per CSS pixel.
pub(super) const FINE: f64 = 10.0;
/// Plotters' text size over the em that its SVG backend writes.
const PLOTTERS_TEXT: f64 = 1.24;

/// A point in CSS pixels from the upper left.
pub type Point = (f64, f64);

/// A rectangle in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }
}

/// Where a text lies relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// Left end at the point; vertically centred.
    Left,
    Middle,
    Right,
    /// Turned a quarter to the left, centred.
    Upward,
}

/// How a text is set.
#[derive(Debug, Clone, Copy)]
pub struct Text {
    pub size: f64,
    pub bold: bool,
    pub colour: RGBColor,
}

impl Text {
    pub const LABEL: Text = Text {
        size: style::TEXT,
        bold: false,
        colour: style::INK,
    };
    pub const TICK: Text = Text {
        size: style::SMALL_TEXT,
        bold: false,
        colour: style::INK,
    };
    pub const FAINT: Text = Text {
        size: style::SMALL_TEXT,
        bold: false,
        colour: style::FAINT_INK,
    };

    /// Width of `text` in this setting.
    pub fn width(&self, text: &str) -> f64 {
        font::width(text, self.size, self.bold)
    }
}

/// The drawing in progress. A failure is kept and reported by [`draw`].
pub struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    failure: Option<String>,
}

/// Draws a figure of `width` × `height` CSS pixels and returns its SVG. `title` is for screen readers.
pub fn draw(
    plot: &str,
    (width, height): (f64, f64),
    title: &str,
    paint: impl FnOnce(&mut Canvas<'_>),
) -> Result<String, PlotError> {
    let (width, height) = (width.ceil(), height.ceil());
    let fine = ((width * FINE) as u32, (height * FINE) as u32);
    let mut svg = String::new();
    let failure = {
        let area = SVGBackend::with_string(&mut svg, fine).into_drawing_area();
        let mut canvas = Canvas {
            area,
            failure: None,
        };
        canvas.fill(
            Rect {
                left: 0.0,
                top: 0.0,
                right: width,
                bottom: height,
            },
            style::PAPER,
        );
        paint(&mut canvas);
        if let Err(error) = canvas.area.present() {
            canvas.fail(error.to_string());
        }
        canvas.failure
    };
    if let Some(message) = failure {
        return Err(PlotError::Draw {
            plot: plot.to_owned(),
            message,
        });
    }
    // Plotters' opening tag has the fine size; ours has the real one.
    let body = svg.split_once('\n').map_or("", |(_, body)| body);
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {} {}\" \
         role=\"img\">\n<title>{}</title>\n{body}",
        fine.0,
        fine.1,
        xml(title)
    ))
}

/// `svg`, as [`draw`] made it, with `title` in place of its title.
pub fn entitle(svg: &str, title: &str) -> String {
    match (svg.split_once("<title>"), svg.split_once("</title>")) {
        (Some((head, _)), Some((_, tail))) => {
            format!("{head}<title>{}</title>{tail}", xml(title))
        }
        _ => svg.to_owned(),
    }
}

/// `text` as XML character data.
fn xml(text: &str) -> String {
    crate::report::text::clean(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn fine((x, y): Point) -> (i32, i32) {
    (fine_length(x), fine_length(y))
}

fn fine_length(length: f64) -> i32 {
    (length * FINE).round() as i32
}

fn stroke(colour: RGBColor, width: f64) -> ShapeStyle {
    ShapeStyle {
        color: colour.to_rgba(),
        filled: false,
        stroke_width: fine_length(width).max(1) as u32,
    }
}

fn filled(colour: RGBColor, opacity: f64) -> ShapeStyle {
    ShapeStyle {
        color: colour.mix(opacity),
        filled: true,
        stroke_width: 0,
    }
}

impl<'a> Canvas<'a> {
    fn fail(&mut self, message: String) {
        self.failure.get_or_insert(message);
    }

    fn element<E>(&mut self, element: &E)
    where
        for<'b> &'b E: plotters::element::PointCollection<'b, (i32, i32)>,
        E: Drawable<SVGBackend<'a>>,
    {
        if let Err(error) = self.area.draw(element) {
            self.fail(error.to_string());
        }
    }

    /// A line through `points`.
    pub fn path(&mut self, points: &[Point], colour: RGBColor, width: f64, dash: Dash) {
        if points.len() < 2 {
            return;
        }
        let mut points: Vec<(i32, i32)> = points.iter().copied().map(fine).collect();
        points.dedup();
        match dash {
            None => self.element(&PathElement::new(points, stroke(colour, width))),
            Some((on, off)) => self.element(&DashedPathElement::new(
                points,
                fine_length(on),
                fine_length(off),
                stroke(colour, width),
            )),
        }
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, colour: RGBColor, width: f64) {
        self.path(&[from, to], colour, width, None);
    }

    /// A filled area.
    pub fn area(&mut self, points: &[Point], colour: RGBColor, opacity: f64) {
        if points.len() > 2 {
            let points: Vec<(i32, i32)> = points.iter().copied().map(fine).collect();
            self.element(&Polygon::new(points, filled(colour, opacity)));
        }
    }

    /// A filled rectangle.
    pub fn fill(&mut self, rect: Rect, colour: RGBColor) {
        let corners = [fine((rect.left, rect.top)), fine((rect.right, rect.bottom))];
        self.element(&Rectangle::new(corners, filled(colour, 1.0)));
    }

    /// A small ring: one run.
    pub fn ring(&mut self, at: Point, radius: f64, colour: RGBColor) {
        self.element(&Circle::new(
            fine(at),
            fine_length(radius),
            filled(style::PAPER, 1.0),
        ));
        self.element(&Circle::new(
            fine(at),
            fine_length(radius),
            stroke(colour, 0.8),
        ));
    }

    /// The mark of a series, with a thin halo that sets it off from lines below it.
    pub fn mark(&mut self, at: Point, look: &Look) {
        for (radius, colour) in [
            (style::MARK + 0.7, style::PAPER),
            (style::MARK, look.colour),
        ] {
            self.shape(at, radius, look.mark, colour);
        }
    }

    fn shape(&mut self, (x, y): Point, r: f64, mark: Mark, colour: RGBColor) {
        let mut polygon = |corners: &[Point]| {
            let points: Vec<Point> = corners
                .iter()
                .map(|(dx, dy)| (x + r * dx, y + r * dy))
                .collect();
            self.area(&points, colour, 1.0);
        };
        match mark {
            Mark::Circle => self.element(&Circle::new(
                fine((x, y)),
                fine_length(r),
                filled(colour, 1.0),
            )),
            Mark::Square => polygon(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
            Mark::Triangle => polygon(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
            Mark::TriangleDown => polygon(&[(0.0, 1.2), (1.1, -0.8), (-1.1, -0.8)]),
            Mark::Diamond => polygon(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
            Mark::Star => {
                // Five points; every second corner lies inside.
                let corners: Vec<Point> = (0..10)
                    .map(|corner| {
                        let angle = std::f64::consts::PI * (f64::from(corner) / 5.0 - 0.5);
                        let radius = if corner % 2 == 0 { 1.5 } else { 0.62 };
                        (radius * angle.cos(), radius * angle.sin())
                    })
                    .collect();
                polygon(&corners);
            }
            Mark::Plus | Mark::Cross => {
                // A plus with arms of width 2w; the cross is the same turned by 45°.
                let (w, l) = (0.32, 1.25);
                let arms = [
                    (-w, -l),
                    (w, -l),
                    (w, -w),
                    (l, -w),
                    (l, w),
                    (w, w),
                    (w, l),
                    (-w, l),
                    (-w, w),
                    (-l, w),
                    (-l, -w),
                    (-w, -w),
                ];
                let turn = if mark == Mark::Cross {
                    std::f64::consts::FRAC_1_SQRT_2
                } else {
                    1.0
                };
                let turned = arms.map(|(dx, dy)| {
                    if mark == Mark::Cross {
                        ((dx - dy) * turn, (dx + dy) * turn)
                    } else {
                        (dx, dy)
                    }
                });
                polygon(&turned);
            }
        }
    }

    /// `text` at a point. Nothing invisible or active gets into the SVG.
    pub fn text(&mut self, text: &str, at: Point, anchor: Anchor, setting: Text) {
        let text = crate::report::text::clean(text);
        let style = if setting.bold {
            FontStyle::Bold
        } else {
            FontStyle::Normal
        };
        let size = (setting.size * FINE).round() * PLOTTERS_TEXT;
        let mut font = FontDesc::new(FontFamily::Name(font::FAMILY), size, style);
        // Half the difference between the height of digits and the x-height that SVG centres by.
        let lift = 0.09 * setting.size;
        let (horizontal, at) = match anchor {
            Anchor::Left => (HPos::Left, (at.0, at.1 + lift)),
            Anchor::Middle => (HPos::Center, (at.0, at.1 + lift)),
            Anchor::Right => (HPos::Right, (at.0, at.1 + lift)),
            Anchor::Upward => {
                font = font.transform(FontTransform::Rotate270);
                (HPos::Center, (at.0 + lift, at.1))
            }
        };
        let style = TextStyle::from(font)
            .color(&setting.colour)
            .pos(Pos::new(horizontal, VPos::Center));
        if let Err(error) = self.area.draw_text(&text, &style, fine(at)) {
            self.fail(error.to_string());
        }
    }
}
