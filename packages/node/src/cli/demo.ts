export const demoCommand = undefined as never
