/** How many milliseconds a worker without a manager takes until it is healthy; it is ended again. */
export async function startByHand(engine, file) {
  const began = performance.now();
  const bare = await engine.startBare(file);
  const took = performance.now() - began;
  await bare.end();
  return Math.round(took * 10) / 10;
}
