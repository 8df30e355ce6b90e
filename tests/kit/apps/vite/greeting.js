export const greeting = 'hello from Vite';
