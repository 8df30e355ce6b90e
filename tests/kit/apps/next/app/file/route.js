import { readFile } from 'node:fs/promises';

export async function GET() {
  return new Response(await readFile('/tmp/kept.bin'));
}
