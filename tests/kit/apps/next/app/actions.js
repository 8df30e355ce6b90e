'use server';

import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';

export async function keep(form) {
  const bytes = Buffer.from(await form.get('file').arrayBuffer());
  await writeFile('/tmp/kept.bin', bytes);
  return createHash('sha256').update(bytes).digest('hex');
}
