// The operator's way through the dashboard in headless Chromium: log in, start, see ON AIR and a playing picture, stop.
//
// Standard input: JSON {dashboard, devicePage, user, password, device, screenshots?}. Standard output: JSON with what was
// seen. Any step that does not come true within its time ends with status 1 and says which.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { chromium } from 'playwright-core';

const STEP_TIME_MAX_MS = 20_000;
const PLAYED_MIN_S = 4;
const ARGUMENTS = [
  '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync', '--autoplay-policy=no-user-gesture-required',
];

const task = JSON.parse(await text(process.stdin));
const seen = { complaints: [] };
let step = 'starting the browser';
const profile = await mkdtemp(join(tmpdir(), 'strata-browser-'));
const browser = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.STRATA_CHROMIUM ?? '/usr/bin/chromium',
  headless: true,
  args: ARGUMENTS,
  viewport: { width: 1280, height: 1240 },
});

try {
  await run();
  console.log(JSON.stringify(seen));
} catch (error) {
  console.error(`while ${step}: ${error.message}`);
  console.error(`page: ${browser.pages().map((page) => page.url()).join(' ')}`);
  console.error(`complaints: ${JSON.stringify(seen.complaints)}`);
  process.exitCode = 1;
} finally {
  await browser.close();
  await rm(profile, { recursive: true, force: true });
}

async function run() {
  const page = await browser.newPage();
  page.setDefaultTimeout(STEP_TIME_MAX_MS);
  watch(page);

  step = 'logging in';
  await page.goto(`${task.dashboard}/`);
  await page.waitForURL('**/login*');
  await page.fill('input[name=name]', task.user);
  await page.fill('input[name=password]', task.password);
  await Promise.all([page.waitForURL((url) => !url.pathname.startsWith('/login')), page.click('form[action="/login"] button')]);
  seen.devicesListed = await page.locator(`a[href="/devices/${task.device}"]`).first().isVisible();
  await shoot(page, 'dashboard-devices');

  step = 'starting the stream';
  await page.goto(`${task.dashboard}/devices/${task.device}`);
  const start = page.locator(`form[action$="/devices/${task.device}/start"]`);
  for (const box of await start.locator('input[type=checkbox]').all()) {
    await box.check();
  }
  await start.locator('button').click();
  step = 'waiting for the stream page';
  await page.waitForURL(/\/streams\/[^/]+$/);
  seen.stream = new URL(page.url()).pathname.split('/').pop();

  step = 'waiting for ON AIR';
  await page.locator('#badge', { hasText: /^ON AIR$/ }).waitFor();

  step = 'waiting for a playing picture';
  const before = await position(page, 0);
  const after = await position(page, before.time + PLAYED_MIN_S);
  seen.played = { from: before.time, to: after.time, width: after.width, height: after.height, frames: after.frames };
  await shoot(page, 'dashboard-stream');

  step = 'looking at the device page';
  const device = await browser.newPage();
  watch(device);
  await device.setViewportSize({ width: 420, height: 860 });
  await device.goto(`${task.devicePage}/`);
  await device.getByText('ON AIR', { exact: true }).first().waitFor();
  await device.waitForTimeout(2500);
  await shoot(device, 'device-page');
  await device.close();

  step = 'stopping the stream';
  page.once('dialog', (dialog) => dialog.accept()); // "Take it off air?"
  await page.locator('form[action$="/stop"] button').first().click();
  step = 'waiting for the end';
  await page.locator('#badge', { hasText: /^ENDED$/ }).waitFor();
  seen.stopped = true;
}

// Waits until the picture has played beyond `time`.
async function position(page, time) {
  const handle = await page.waitForFunction((time) => {
    const video = document.querySelector('video');
    if (!video || video.readyState < 2 || video.currentTime <= time || video.videoWidth === 0) {
      return null;
    }
    const frames = video.getVideoPlaybackQuality().totalVideoFrames;
    return { time: video.currentTime, width: video.videoWidth, height: video.videoHeight, frames };
  }, time);
  return handle.jsonValue();
}

// What a page complains of: script errors, refused requests, and anything that does not come from this machine. The playlist is
// asked for before there is one; that is no fault.
function watch(page) {
  page.on('pageerror', (error) => seen.complaints.push(`script error: ${error.message}`));
  page.on('console', (message) => {
    const refused = message.text().startsWith('Failed to load resource'); // told with its address below
    if (message.type() === 'error' && !refused) seen.complaints.push(`console: ${message.text()}`);
  });
  page.on('response', (response) => {
    const early = response.status() === 404 && response.url().endsWith('/hls/live.m3u8');
    if (response.status() >= 400 && !early) seen.complaints.push(`${response.status()} for ${response.url()}`);
  });
  page.on('request', (request) => {
    const { protocol, hostname } = new URL(request.url());
    if (protocol.startsWith('http') && hostname !== '127.0.0.1') seen.complaints.push(`foreign request: ${request.url()}`);
  });
}

async function shoot(page, name) {
  if (task.screenshots) {
    await page.screenshot({ path: join(task.screenshots, `${name}.png`) });
  }
}
