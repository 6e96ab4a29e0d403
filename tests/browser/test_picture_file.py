"""Pictures from files: chosen, dropped or pasted, turned upright and reduced, and the part to read marked by hand."""

import base64
import io

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.support.browser import wait_for
from tests.support.pictures import grainy, near, number, photo, save
from tests.support.strokes import DIGITS, draw

SHOWN = """
const text = (id) => document.getElementById(id).textContent;
const main = document.getElementById("main");
const photo = document.querySelector(".photo");
const picture = photo?.querySelector("canvas, img");
const answer = document.getElementById("answer");
const share = (element) => {
  const [inner, outer] = [element.getBoundingClientRect(), photo.getBoundingClientRect()];
  return [
    (inner.left - outer.left) / outer.width,
    (inner.top - outer.top) / outer.height,
    (inner.right - outer.left) / outer.width,
    (inner.bottom - outer.top) / outer.height,
  ];
};
const ink = document.querySelector(".photo-ink");
const box = document.querySelector(".photo-box");
const mark = document.querySelector(".photo-mark");
return {
  state: main.dataset.state,
  mode: main.dataset.mode ?? null,
  status: text("status"),
  words: [text("verdict"), text("remark")],
  spoken: text("spoken"),
  number: answer.dataset.number ? [...answer.querySelectorAll(".sign")].map((e) => e.textContent).join("") : null,
  best: text("best"),
  seen: document.getElementById("seen").naturalWidth,
  upright: photo && photo.clientHeight > photo.clientWidth,
  picture: picture?.tagName ?? null,
  ink: Boolean(photo && ink.style.maskImage && !ink.hidden),
  box: photo && !box.hidden ? share(box) : null,
  mark: photo && !mark.hidden ? share(mark) : null,
  note: document.querySelector(".photo-note")?.textContent ?? null,
  feedback: [...document.querySelectorAll("#feedback button")].map((button) => button.textContent),
  sent: window.sent ?? [],
};
"""
# Notes the kind, the bytes and the crop of each picture that is sent to be read; window.held holds the next one up.
WATCH = """
const ask = window.fetch;
window.sent = [];
window.fetch = async (url, options) => {
  if (String(url).endsWith("/read")) {
    const { image, crop } = JSON.parse(options.body);
    const bytes = atob(image.split(",")[1]);
    window.sent.push({ bytes: bytes.length, kind: bytes.slice(0, 4), crop: crop ?? null });
    const held = window.held;
    window.held = null;
    await held;
  }
  return window.stubbed?.(url) ?? ask(url, options);
};
"""
# Gives the page files by a drop or a paste: (name, type, base64) each.
GIVE = """
const [type, selector, files] = arguments;
const data = new DataTransfer();
for (const [name, kind, base64] of files) {
  const bytes = Uint8Array.from(atob(base64), (sign) => sign.charCodeAt(0));
  data.items.add(new File([bytes], name, { type: kind }));
}
const options = { bubbles: true, cancelable: true };
const event = type === "paste"
  ? new ClipboardEvent(type, { clipboardData: data, ...options })
  : new DragEvent(type, { dataTransfer: data, ...options });
return document.querySelector(selector).dispatchEvent(event);
"""
JPEG = "\xff\xd8\xff"


def shown(driver, condition):
    """What the page shows once it fulfils the condition."""

    def look(driver):
        found = driver.execute_script(SHOWN)
        return condition(found) and found

    return wait_for(driver, look)


def read(found):
    return found["mode"] == "picture" and found["state"] == "reading" and found["words"][0] != ""


def choose(driver, *paths):
    driver.find_element(By.ID, "picture-file").send_keys("\n".join(paths))


def give(driver, event, selector, *files):
    return driver.execute_script(GIVE, event, selector, files)


def as_file(picture, name="a.png"):
    data = io.BytesIO()
    picture.save(data, "PNG")
    return [name, "image/png", base64.b64encode(data.getvalue()).decode()]


@pytest.fixture
def page(browser, server):
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
    browser.get(server.url)
    return browser


def test_file_is_read_and_the_way_is_shown(either_browser, server, tmp_path):
    page = either_browser
    page.get(server.url)
    draw(page, DIGITS[7])
    shown(page, lambda found: found["words"][0].endswith("a 7"))
    choose(page, save(photo(number("3", 0.25, 0.5)), tmp_path / "three.png"))
    found = shown(page, lambda found: read(found) and found["words"][0] in found["spoken"] and found["seen"])
    assert found["words"][0].endswith("a 3") and found["best"] == "3"
    assert (found["ink"], found["seen"], found["upright"], found["picture"]) == (True, 28, True, "CANVAS")
    left, top, right, bottom = found["box"]
    assert 0 < left < 0.5 < right < 1 and near((top, bottom), (0.25, 0.75), 0.06)
    assert not page.find_element(By.ID, "brush").is_displayed()
    # the drawing that was there comes back
    page.find_element(By.CSS_SELECTOR, ".photo-button").click()
    found = shown(page, lambda found: found["mode"] is None and found["words"][0].endswith("a 7"))
    assert found["best"] == "7" and found["picture"] is None


@pytest.mark.parametrize(("event", "selector"), [("drop", "#canvas"), ("paste", "body")])
def test_picture_is_dropped_or_pasted_anywhere(page, event, selector):
    awaited = "return document.getElementById('sheet').classList.contains('is-awaited')"
    file = as_file(photo(number("205")))
    if event == "drop":
        assert not give(page, "dragover", selector, file)
        assert page.execute_script(awaited)
    give(page, event, selector, file)
    found = shown(page, lambda found: read(found) and found["number"])
    assert found["number"] == "205" and not page.execute_script(awaited)


def test_text_that_is_pasted_changes_nothing(page):
    page.execute_script(
        "const data = new DataTransfer(); data.setData('text/plain', '7');"
        "document.body.dispatchEvent(new ClipboardEvent('paste', {clipboardData: data, bubbles: true}))"
    )
    draw(page, DIGITS[7])
    found = shown(page, lambda found: found["words"][0].endswith("a 7"))
    assert (found["mode"], found["sent"]) == (None, [])


def test_large_photo_is_turned_upright_and_reduced(page, tmp_path):
    """Twenty million pixels and some ten megabytes; the camera was held on its side."""
    picture = grainy(photo(number("4", 0.2, 0.6, 0.2, 0.6), (3864, 5176)))
    path = save(picture, tmp_path / "photo.jpg", turned=True, quality=92)
    assert (tmp_path / "photo.jpg").stat().st_size > 5_000_000
    choose(page, path)
    found = shown(page, read)
    assert found["words"][0].endswith("a 4") and found["upright"]
    (sent,) = found["sent"]
    assert sent["kind"].startswith(JPEG) and sent["bytes"] < 1_000_000


def test_browser_whose_canvas_lies_sends_the_file_as_it_is(either_browser, server, tmp_path):
    page = either_browser
    page.get(server.url)
    page.execute_script(
        "const read = FileReader.prototype.readAsDataURL;"
        "FileReader.prototype.readAsDataURL = function (file) { window.size = file.size; return read.call(this, file) }"
    )
    choose(page, save(grainy(photo(number("5", 0.25, 0.5))), tmp_path / "five.png"))
    found = shown(page, read)
    assert found["words"][0].endswith("a 5") and found["picture"] == "CANVAS"
    is_reduced = page.execute_script("return window.size") < (tmp_path / "five.png").stat().st_size
    assert is_reduced == (page.name == "chrome")


def test_photo_held_on_its_side_that_is_sent_as_it_is_lies_under_its_ink(page, tmp_path):
    choose(page, save(photo(number("4", 0.1, 0.4)), tmp_path / "small.jpg", turned=True))
    found = shown(page, read)
    assert found["words"][0].endswith("a 4") and found["upright"]
    assert found["box"][3] < 0.6, "the box lies over the upper half, where the digit stands"


def test_wrong_part_is_mended_by_a_frame(page, tmp_path):
    """Two digits far apart: a finger draws the frame around one, then keys move it to the other."""
    both = [*number("8", 0.08, 0.3, 0.1, 0.3), *number("2", 0.6, 0.3, 0.55, 0.3)]
    choose(page, save(photo(both), tmp_path / "both.png"))
    shown(page, lambda found: found["mode"] == "picture" and found["state"] != "loading")
    frame = page.find_element(By.CSS_SELECTOR, ".photo")
    width, height = frame.size["width"], frame.size["height"]
    drag = ActionBuilder(page, mouse=PointerInput("touch", "finger"))
    drag.pointer_action.move_to(frame, int(-0.45 * width), int(-0.45 * height)).pointer_down()
    drag.pointer_action.move_to(frame, int(-0.03 * width), int(-0.05 * height)).pointer_up()
    drag.perform()
    found = shown(page, lambda found: read(found) and found["words"][0].endswith("an 8"))
    assert near(found["mark"], (0.05, 0.05, 0.47, 0.45), 0.02)
    assert near(found["sent"][-1]["crop"], found["mark"], 0.02)
    # the first press of an arrow key puts the frame around what was found
    frame.send_keys(Keys.ESCAPE, *[Keys.ARROW_RIGHT] * 20, *[Keys.ARROW_DOWN] * 23)
    larger = [*[Keys.ARROW_RIGHT] * 10, *[Keys.ARROW_DOWN] * 7]
    ActionChains(page).key_down(Keys.SHIFT).send_keys(*larger).key_up(Keys.SHIFT).perform()
    frame.send_keys(Keys.ENTER)
    found = shown(page, lambda found: read(found) and found["words"][0].endswith("a 2"))
    frame_text = "return document.getElementById('pen-spoken').textContent"
    assert wait_for(page, lambda d: d.execute_script(frame_text)).startswith("Frame from ")
    assert found["mark"][0] > 0.5 and found["mark"][1] > 0.5 and len(found["sent"]) == 3
    frame.send_keys(Keys.ESCAPE)
    shown(page, lambda found: found["mark"] is None)


def test_digit_of_a_photo_is_corrected_by_its_digit_image(page, tmp_path):
    page.execute_script(
        "sessionStorage.setItem('inkling-consent', 'yes');"
        "const ask = window.fetch; window.fetch = (url, options) => {"
        "  if (options.body?.includes('meant')) window.corrected = JSON.parse(options.body); return ask(url, options)}"
    )
    choose(page, save(photo(number("5", 0.25, 0.5)), tmp_path / "five.png"))
    shown(page, lambda found: read(found) and "Right" in found["feedback"])
    page.execute_script("document.querySelector('#feedback button').click()")
    wait_for(page, lambda d: d.find_element(By.ID, "feedback").get_attribute("data-step") == "kept")
    correction, seen = page.execute_script("return [window.corrected, document.getElementById('seen').src]")
    assert correction == {"image": seen, "meant": 5}


@pytest.mark.parametrize("name", ["a text named .png", "a broken picture"])
def test_file_that_is_no_picture_is_told_and_the_drawing_stays(page, tmp_path, name):
    page.expected_complaint = "400"
    draw(page, DIGITS[7])
    shown(page, lambda found: found["words"][0].endswith("a 7"))
    path = tmp_path / "seven.png"
    save(photo(number("7")), path)
    path.write_bytes(b"This is no picture.\n" * 20 if "text" in name else path.read_bytes()[:900])
    choose(page, str(path))
    found = shown(page, lambda found: found["state"] == "notice")
    assert found["status"].endswith(".") and "picture" in found["status"]
    assert (found["mode"], found["best"]) == (None, "7")
    assert len(found["sent"]) == ("text" not in name), "what is no picture is not sent"


def test_file_that_cannot_be_reduced_is_refused_before_it_is_sent(page, tmp_path):
    path = tmp_path / "large.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 12_345_666)
    choose(page, str(path))
    found = shown(page, lambda found: found["state"] == "notice")
    assert found["status"] == ("The file has 12.3 MB and this browser cannot reduce it; at most 10 MB are read.")
    assert found["sent"] == []


def test_of_fifty_files_the_first_is_read_and_a_sentence_says_so(page, tmp_path):
    paths = [save(photo(number(str(i % 10), 0.25, 0.5), (300, 400)), tmp_path / f"{i}.png") for i in range(50)]
    choose(page, *paths)
    found = shown(page, read)
    assert found["words"][0].endswith("a 0") and len(found["sent"]) == 1
    assert found["note"] == "The first of 50 files is read."


def test_drawing_cancels_what_is_being_read(page, tmp_path):
    page.execute_script("window.stubbed = (url) => (String(url).endsWith('/read') ? new Promise(() => {}) : null)")
    path = tmp_path / "odd.heic"  # no browser shows it: it would be shown with the answer
    path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 1000)
    choose(page, str(path))
    shown(page, lambda found: found["state"] == "loading" and found["sent"])
    draw(page, DIGITS[7])
    found = shown(page, lambda found: found["words"][0].endswith("a 7"))
    assert (found["mode"], found["state"]) == (None, "reading")


def test_picture_that_the_browser_cannot_show_comes_with_the_answer(page, tmp_path):
    path = tmp_path / "scan.tif"
    photo(number("6", 0.25, 0.5), (300, 400)).save(path)
    choose(page, str(path))
    found = shown(page, read)
    assert found["words"][0].endswith("a 6") and (found["picture"], found["upright"]) == ("IMG", True)


def test_empty_sheet_of_paper_is_told_and_offers_no_correction(page, tmp_path):
    """The drawing behind it is not what was read, and must not be sent for it."""
    draw(page, DIGITS[7])
    shown(page, lambda found: found["feedback"])
    choose(page, save(photo([]), tmp_path / "empty.png"))
    found = shown(page, lambda found: found["mode"] == "picture" and found["state"] == "blank")
    assert found["status"] == "No writing is found. Drag a frame around the digits."
    assert not page.find_element(By.ID, "feedback").find_elements(By.CSS_SELECTOR, "button")


def test_second_file_that_is_no_picture_leaves_the_answer_to_the_first(page, tmp_path):
    choose(page, save(photo(number("4", 0.25, 0.5)), tmp_path / "four.png"))
    shown(page, lambda found: read(found) and found["words"][0].endswith("a 4"))
    (tmp_path / "text.png").write_bytes(b"This is no picture.")
    choose(page, str(tmp_path / "text.png"))
    shown(page, lambda found: found["state"] == "notice")
    found = shown(page, lambda found: found["state"] == "reading")
    assert found["mode"] == "picture" and found["words"][0].endswith("a 4")


@pytest.mark.parametrize("beginning", [b"This is no picture.", b"\x89PNG\r\n\x1a\n and no more"])
def test_second_file_that_is_no_picture_leaves_the_first_being_read(page, tmp_path, beginning):
    page.expected_complaint = "400"
    page.execute_script("window.held = new Promise((resolve) => { window.release = resolve; })")
    (tmp_path / "text.png").write_bytes(beginning)
    choose(page, save(photo(number("4", 0.25, 0.5)), tmp_path / "four.png"))
    shown(page, lambda found: found["mode"] == "picture" and found["sent"])
    choose(page, str(tmp_path / "text.png"))
    shown(page, lambda found: found["state"] == "notice" or len(found["sent"]) > 1)
    page.execute_script("window.release()")
    found = shown(page, read)
    assert found["words"][0].endswith("a 4")


def test_large_picture_of_light_ink_on_nothing_is_read(page, tmp_path):
    paper = photo(number("4", 0.25, 0.5), (2100, 2100)).convert("L")
    ink = paper.point(lambda grey: 255 * (grey < 128))
    white = Image.new("L", ink.size, 255)
    choose(page, save(Image.merge("RGBA", (white, white, white, ink)), tmp_path / "light.png"))
    found = shown(page, read)
    assert found["words"][0].endswith("a 4")


@pytest.mark.parametrize("width", [320, pytest.param(1280, marks=pytest.mark.stress)])
def test_picture_moves_nothing_on_the_page(page, tmp_path, width):
    screen = {"width": width, "height": 700, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    boxes = (
        "return ['#sheet', '#answer', '#status', '#top', '.seen', '#feedback', '.probabilities', '#version']"
        ".map((part) => JSON.stringify(document.querySelector(part).getBoundingClientRect()))"
    )
    before = page.execute_script(boxes)
    choose(page, save(photo(number("27")), tmp_path / "number.png"))
    shown(page, lambda found: read(found) and found["number"] == "27")
    assert page.execute_script(boxes) == before
    tools = (
        "const { scrollHeight, clientHeight } = document.querySelector('.photo-tools');"
        "return scrollHeight - clientHeight"
    )
    assert page.execute_script(tools) <= 0
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.find_element(By.CSS_SELECTOR, ".photo-button").click()
    shown(page, lambda found: found["mode"] is None)
    assert page.execute_script(boxes) == before
