import { Counter } from './counter';

export default function Page() {
  return (
    <main>
      <h1>hello from Next.js</h1>
      <Counter />
    </main>
  );
}
