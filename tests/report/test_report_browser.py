"""The page in headless Chromium: no console error, every figure has a size, the toggles do what they say."""

import shutil

import pytest

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
DRIVER = shutil.which("chromedriver")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium and chromedriver on this machine"),
]


@pytest.fixture(scope="module")
def browser(made, tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_window_size(1366, 900)
    driver.get(made[1]["page"].as_uri())
    yield driver
    driver.quit()


def test_all_figures_are_there_and_the_console_is_silent(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    sizes = browser.execute_script(
        "return Array.from(document.querySelectorAll('.figure')).map(f => {"
        " const b = f.querySelector('svg, img').getBoundingClientRect(); return [b.width, b.height]; })"
    )
    # The last: a response, and a correlation of the bins of each spectrum that is unfolded.
    assert len(sizes) == (2 + 7 * 2) + (2 + 6 * 4) + (2 + 6) + (1 + 5)
    assert all(width > 100 and height > 100 for width, height in sizes)
    broken = browser.execute_script(
        "return Array.from(document.images).filter(i => !i.complete || i.naturalWidth === 0).length"
    )
    assert broken == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_nothing_is_wider_than_a_laptop(browser):
    width, room = browser.execute_script("return [document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= room


def visible(browser, selector):
    return browser.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0])).filter("
        "e => getComputedStyle(e).display !== 'none').length",
        selector,
    )


@pytest.mark.parametrize("kind", ["series", "role"])
def test_toggles_hide_and_show(browser, kind):
    boxes = browser.find_elements("css selector", f"input[data-toggle={kind}]")
    assert len(boxes) == {"series": 5, "role": 3}[kind]
    value = boxes[0].get_attribute("value")
    mine, others = f"[data-{kind}='{value}']", f"[data-{kind}]:not([data-{kind}='{value}'])"
    before = visible(browser, mine), visible(browser, others)
    assert min(before) > 3
    browser.execute_script("arguments[0].click()", boxes[0])
    assert (visible(browser, mine), visible(browser, others)) == (0, before[1])
    browser.execute_script("arguments[0].click()", boxes[0])
    assert (visible(browser, mine), visible(browser, others)) == before


def test_open_all_opens_and_closes_the_examples(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = false; })")
    button = browser.find_element("css selector", "button[data-open=gallery-0]")
    count = "return document.querySelectorAll('#gallery-0 details[open]').length"
    browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script(count) == 7
    browser.execute_script("arguments[0].click()", button)
    assert browser.execute_script(count) == 0
