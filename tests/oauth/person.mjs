// A person at a browser: `node person.mjs NODE_MODULES CHROMIUM`, told on stdin what to do, a JSON document a line:
// {"open": URL, "code": USER_CODE?, "refuse": true?}. Goes through login and consent in a real headless Chromium,
// driven by the DevTools protocol, and says on stdout what the last page shows.

import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const [modules, executablePath] = process.argv.slice(2);
const { chromium } = createRequire(`${modules}/`)('playwright-core');
const WITHIN = 20_000;

const browser = await chromium.launch({
  executablePath,
  headless: true,
  // Whoever runs the tests may be root, or without namespaces of their own: the pages are ours.
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1'],
});

async function press(page, selector) {
  await Promise.all([page.waitForNavigation({ timeout: WITHIN, waitUntil: 'domcontentloaded' }), page.click(selector)]);
}

async function visit({ open, code, refuse }) {
  const context = await browser.newContext();
  try {
    const page = await context.newPage();
    // The pages name a font on another host; nothing of a test leaves this machine.
    await page.route((url) => url.hostname !== '127.0.0.1', (route) => route.abort());
    await page.goto(open, { timeout: WITHIN, waitUntil: 'domcontentloaded' });
    for (let steps = 0; steps < 10; steps += 1) {
      if (new URL(page.url()).pathname === '/callback') break;
      if (await page.$('input[name=login]')) {
        if (refuse) { await press(page, 'a[href$="/abort"]'); continue; }
        await page.fill('input[name=login]', 'alice');
        await page.fill('input[name=password]', 'anything');
        await press(page, 'button[type=submit]');
      } else if (await page.$('input[name=prompt][value=consent]')) {
        await press(page, refuse ? 'a[href$="/abort"]' : 'button[type=submit]');
      } else if (await page.$('form[id="op.deviceInputForm"]')) {
        await page.fill('input[name=user_code]', code);
        await press(page, 'button[type=submit]');
      } else if (await page.$('form[id="op.deviceConfirmForm"]')) {
        await press(page, refuse ? 'button[name=abort]' : 'button[type=submit]');
      } else break;
    }
    return { shown: await page.innerText('body'), at: page.url().split('?')[0] };
  } finally {
    await context.close();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const said = await visit(JSON.parse(line)).catch((error) => ({ failed: String(error) }));
  process.stdout.write(`${JSON.stringify(said)}\n`);
}
await browser.close();
