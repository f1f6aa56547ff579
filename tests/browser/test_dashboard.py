"""The dashboard in a real browser, on a real service and store."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

import pytest
from playwright.async_api import expect

from ml.jobs.event_type import EventType, phase_event
from ml.jobs.job import JobState, StopRequest
from tests.browser.conftest import OpenDashboard, StartService, Trainer
from tests.browser.dashboard import Jobs
from tests.support.processes import Server

#: Looks for the lowest contrast of a text against what is behind it (WCAG 2.2, 1.4.3).
CONTRAST = Path(__file__).with_name("contrast.js").read_text()

pytestmark = pytest.mark.usefixtures("service")


async def test_without_jobs_the_page_says_how_to_start_one_and_then_shows_it(
    open_dashboard: OpenDashboard, jobs: Jobs, trainer: Trainer
) -> None:
    page = await open_dashboard()
    await page.shows("#empty pre", f'curl -X POST "{trainer.url}/finetune"')
    await expect(page.find("#jobs")).to_be_hidden()

    await jobs.queue("first")
    await expect(page.card("first")).to_contain_text("queued")
    await expect(page.card("first")).to_contain_text("no. 1 in the queue")
    await expect(page.find("#empty")).to_be_hidden()


async def test_curves_and_numbers_grow_with_the_events(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    page = await open_dashboard()
    await page.shows("#status", "running")
    await page.shows("#phase", "Training on 16 examples")
    await expect(page.find("#loss-chart .plot")).to_have_attribute("data-empty", "no steps yet")

    await jobs.step("one", *range(1, 6))
    await page.shows_points(5)
    few = await page.ink()
    await jobs.step("one", *range(6, 31))
    for chart in ("loss", "rate", "norm"):
        await page.shows_points(30, chart)
        assert await page.ink(chart) > 0
    assert await page.ink() > few
    numbers = await page.numbers()
    assert numbers["Step"] == "30 / 60"
    assert numbers["Epoch"] == "3.75"
    assert numbers["Loss"] == "1.446"
    assert numbers["Eval loss"] == "1.646"
    assert numbers["Time left"] == "45 s"
    await page.shows("#phase", "50 % · Training on 16 examples")
    assert await page.page.title() == "50 % · one-model"
    assert await page.find("#loss-chart .legend li").all_inner_texts() != []
    await expect(page.card("one")).to_contain_text("30 / 60 · loss 1.446")

    await jobs.end("one", JobState.SUCCEEDED)
    await page.shows("#status", "succeeded")
    await page.shows("#result", "The tuned model one-model is ready.")
    await page.shows("#messages", "the tuned model one-model is ready")


async def test_a_reload_shows_the_same_and_asks_for_each_event_once(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", *range(1, 31))
    await jobs.log("one", "a checkpoint")
    page = await open_dashboard()
    await page.shows_points(30)
    await page.find("#log-steps").check()
    await expect(page.find("#messages [data-level=STEP]")).to_have_count(30)
    before = await page.messages(), await page.numbers()

    await page.page.reload()
    await page.shows_points(30)
    await page.shows("#messages", "a checkpoint")
    after = await page.messages(), await page.numbers()
    assert after[0] == before[0]
    assert {**after[1], "Running for": ""} == {**before[1], "Running for": ""}
    assert page.open_streams() == 2


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
async def test_after_the_service_was_gone_nothing_is_missing_and_nothing_is_there_twice(
    open_dashboard: OpenDashboard,
    jobs: Jobs,
    start_service: StartService,
    service: Server,
    end: signal.Signals,
) -> None:
    await jobs.start("one")
    await jobs.step("one", *range(1, 11))
    page = await open_dashboard()
    await page.find("#log-steps").check()
    await page.shows_points(10)

    service.signal(end)
    service.wait()
    await page.shows("#connection", "No news: the service cannot be reached. Trying again.")
    await jobs.step("one", *range(11, 21))
    start_service()
    await page.shows_points(20)
    await page.shows("#connection", "live")
    await jobs.step("one", 21)
    await page.shows_points(21)
    assert sum("STEP" in line for line in await page.messages()) == 21
    page.excuse("net::ERR_")
    page.complaints = [text for text in page.complaints if "503" not in text]  # it was starting


async def test_an_ended_job_is_no_longer_listened_to_until_it_is_resumed(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", *range(1, 21))
    await jobs.end("one", JobState.FAILED, "The process was killed.\n\nIts last line: step 20")
    page = await open_dashboard()
    await page.shows_points(20)
    await page.shows("#status", "failed")
    await page.shows("#reason", "Its last line: step 20")
    await page.page.wait_for_timeout(5000)  # longer than an EventSource waits to come again
    assert page.open_streams() == 1

    await page.find("#resume").click()
    await page.shows("#status", "queued")
    await expect(page.find("#reason")).to_be_hidden()
    await jobs.claim("one")
    await jobs.step("one", *range(11, 31), better=0.5)  # from the checkpoint of step 10
    await page.shows_points(30)
    await page.shows_number("Attempt", "2")
    assert page.open_streams() == 2
    await page.page.reload()
    await page.shows_points(30)


async def test_a_job_is_cancelled_only_after_a_question(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    page = await open_dashboard()
    await page.find("#cancel").click()
    await page.shows("#confirm", "one-model finishes its step, saves and stops.")
    await page.page.keyboard.press("Escape")
    await expect(page.find("#confirm")).to_be_hidden()
    assert (await jobs.store.get("one")).stop is None

    await page.find("#cancel").click()
    await page.find("#confirm .danger").click()
    await page.shows("#status", "saving, then stopping")
    await expect(page.find("#cancel")).to_be_disabled()
    async with asyncio.timeout(60):  # the page says so before it is answered
        while (await jobs.store.get("one")).stop is not StopRequest.CANCEL:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await jobs.end("one", JobState.CANCELLED)
    await page.shows("#status", "cancelled")
    await expect(page.find("#resume")).to_be_visible()
    await expect(page.find("#cancel")).to_be_hidden()


async def test_what_the_service_refuses_is_told(open_dashboard: OpenDashboard, jobs: Jobs) -> None:
    await jobs.start("one")
    page = await open_dashboard()
    await page.find("#cancel").click()
    await jobs.end("one", JobState.SUCCEEDED)
    await page.find("#confirm .danger").click()
    await page.shows("#notice", "one-model: job one is succeeded and cannot become cancelled")
    page.excuse("409")

    await page.find("#prompt").fill("Who is there?")
    await page.find("#ask .primary").click()
    await page.shows("#answer-end", "No answer: This service answers with no model")
    page.excuse("404")


async def test_an_address_of_no_job_is_told_and_another_one_shown(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    page = await open_dashboard("#job=nobody")
    await page.shows("#notice", "nobody: there is no job 'nobody'")
    await page.shows("#name", "one-model")
    page.excuse("404")


async def test_what_a_job_says_is_text_and_never_markup(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    hostile = '<img src=x onerror="window.taken = true"><script>window.taken = true</script>'
    await jobs.start("one", output_dir=hostile, model_name=hostile, **{hostile: hostile})
    await jobs.tell("one", *phase_event(hostile, hostile))
    await jobs.step("one", 1, 2)
    await jobs.log("one", hostile, level=hostile)
    await jobs.end("one", JobState.FAILED, hostile)
    await jobs.start("two", output_dir=f"{hostile}2", model_name=hostile)
    await jobs.step("two", 1, 2)
    page = await open_dashboard("#job=one&with=two")
    await page.shows_points(2)
    for place in ("#name", "#subtitle", "#reason", "#messages", "#differences", ".legend >> nth=0"):
        await page.shows(place, hostile)
    await page.find(".settings summary").click()
    await page.shows("#settings", hostile)
    await expect(page.card("one")).to_contain_text(hostile)
    await page.find("#cancel").is_hidden()
    assert await page.find("main img, main script").count() == 0
    assert await page.page.evaluate("window.taken") is None


async def test_jobs_are_compared_on_one_chart_and_a_reload_keeps_them(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    for job_id, rate in (("one", 1e-4), ("two", 3e-4)):
        await jobs.start(job_id, learning_rate=rate)
        await jobs.step(job_id, *range(1, 21))
        await jobs.end(job_id, JobState.SUCCEEDED)
    page = await open_dashboard("#job=one")
    legend = page.find("#loss-chart .legend li span")
    await expect(legend).to_have_text(["train", "eval"])
    await page.card("two").locator("input").check()
    both = ["one-model", "eval", "two-model", "eval"]
    await expect(legend).to_have_text(both)
    rows = await page.find("#differences tr").all_inner_texts()
    assert [re.split(r"\s+", row.strip()) for row in rows] == [
        ["one-model", "two-model"],
        ["last", "loss", "1.736", "1.736"],
        ["learning_rate", "0.0001", "0.0003"],
    ]

    await page.page.reload()
    await expect(legend).to_have_text(both)
    await page.card("two").locator(".pick").click()  # changes which one the details are of
    await page.shows("#name", "two-model")
    await page.card("one").locator("input").uncheck()
    await expect(legend).to_have_text(["train", "eval"])


async def test_smoothing_and_log_scale_change_the_chart_and_outlive_a_reload(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", *range(1, 31))
    page = await open_dashboard()
    await page.shows_points(30)
    smoothed = await page.find("#loss-chart .legend b >> nth=0").inner_text()
    await page.find("#smoothing").fill("0")
    await page.shows("#loss-chart .legend b >> nth=0", "1.446")
    assert smoothed != "1.446"
    linear = await page.ink()
    await page.find("#log-scale").check()
    await expect(page.find("#loss-chart canvas")).to_have_count(1)
    await page.draws_anew(linear)
    await page.page.reload()
    await page.shows_points(30)
    await page.shows("#loss-chart .legend b >> nth=0", "1.446")
    assert await page.find("#log-scale").is_checked()


async def test_the_keyboard_reaches_the_jobs_and_walks_along_the_curves(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    await jobs.step("one", *range(1, 31))
    await jobs.queue("two")
    page = await open_dashboard("#job=two")
    press = page.page.keyboard.press
    await expect(page.card("one")).to_be_visible()
    await press("Tab")  # the link that skips the navigation
    await press("Enter")
    await press("Tab")
    await press("Enter")
    await page.shows("#name", "one-model")
    await page.shows_points(30)
    await page.find("#loss-chart .plot").focus()
    await press("ArrowRight")
    await press("ArrowRight")
    await page.shows("#loss-chart .legend", "step 2")
    await page.shows("#rate-chart .legend", "step 2")  # one cursor for all charts


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_text_can_be_read_in_light_and_in_dark(
    open_dashboard: OpenDashboard, jobs: Jobs, scheme: str
) -> None:
    ends = [state for state in JobState if state.is_final]
    for state in ends:
        await jobs.start(state.value)
        await jobs.step(state.value, 1, 2)
        await jobs.log(state.value, "careful", "WARNING")
        await jobs.end(state.value, state, "as it was to be")
    await jobs.start("running")
    await jobs.queue("queued")
    for address in ("#job=failed&with=succeeded", "#job=succeeded", "#job=running"):
        page = await open_dashboard(address, color_scheme=scheme)
        await expect(page.card("queued")).to_be_visible()
        found = await page.page.evaluate(CONTRAST)
        assert found["texts"] > 50
        assert found["lowest"] >= 4.5, found
        assert (found["page"] < 0.1) is (scheme == "dark")


async def test_a_phone_shows_it_without_scrolling_sideways_and_without_jumps(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    long = "a-name-that-is-as-long-as-names-of-tuned-models-may-become-which-is-ninety-six-letters"
    await jobs.start("done", output_dir=long, model_name=f"{long}/{long}")
    await jobs.step("done", *range(1, 21))
    await jobs.end("done", JobState.FAILED, f"/{long}/{long}.jsonl: " + "no such file; " * 20)
    await jobs.start("one", output_dir=f"{long}-2")
    await jobs.step("one", *range(1, 6))
    await jobs.log("one", long * 3)
    small = {"width": 360, "height": 740}
    page = await open_dashboard("#job=one&with=done", viewport=small, has_touch=True)
    await page.shows_points(20)
    await page.page.locator("summary").first.click()
    await page.page.locator("summary").last.click()
    width = "document.documentElement.scrollWidth"
    assert await page.page.evaluate(width) == 360

    tops = "[...document.querySelectorAll('#details > *')].map(part => part.offsetTop)"
    before = await page.page.evaluate(tops)
    await jobs.step("one", *range(6, 25))
    await page.shows_points(24)
    assert await page.page.evaluate(tops) == before
    await page.card("done").locator(".pick").click()
    await page.shows("#reason", "no such file")
    assert await page.page.evaluate(width) == 360


async def test_the_rows_that_were_dropped_are_told_with_the_reasons(
    open_dashboard: OpenDashboard, jobs: Jobs
) -> None:
    await jobs.start("one")
    page = await open_dashboard()
    await page.shows("#status", "running")
    await expect(page.find("#dropped")).to_be_hidden()
    data = {"rows": 18, "dropped": 2, "reasons": {"missing": 1, "syntax": 1}}
    event = {"level": "WARNING", "message": "2 of 18 rows dropped", "data": data}
    await jobs.tell("one", EventType.LOG, event)
    await page.shows("#dropped", "2 of 18 rows dropped: missing 1, syntax 1")
