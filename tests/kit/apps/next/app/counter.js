'use client';

import { useState } from 'react';

import { keep } from './actions';

export function Counter() {
  const [count, setCount] = useState(0);
  const [kept, setKept] = useState('');
  const upload = async (form) => setKept(await keep(form));
  return (
    <>
      <p id="label">counted</p>
      <button onClick={() => setCount(count + 1)}>{count}</button>
      <form action={upload}>
        <input type="file" name="file" />
        <input type="submit" value="keep" />
      </form>
      <output>{kept}</output>
      <a href="/file" download="kept.bin">
        download
      </a>
    </>
  );
}
