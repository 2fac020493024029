// Follows faces from frame to frame, as fer_pipeline/inference/faces/tracking.py does.

import { shares } from "./faces.js";

const SAME = 0.2, PATIENCE = 10, SMOOTH = 0.5; // SMOOTH: predict's, if it is not told another

const doubled = (edges) => edges.map((edge, i) => edge + (edge - edges[(i + 2) % 4]) / 2);
const share = (one, other) => shares(doubled(one.edges), doubled(other.edges))[0];

/** Makes a function: faces of a frame -> all that are followed, first those that are not missed. */
export function follower() {
  let tracks = [], next = 1;
  return (found) => {
    const pairs = tracks.flatMap((track) => found.map((face) => [share(track, face), track, face]));
    const past = new Map(), continued = new Set();
    for (const [shared, track, face] of pairs.sort((one, other) => other[0] - one[0]))
      if (shared >= SAME && !past.has(face) && !continued.has(track))
        past.set(face, track) && continued.add(track);
    const now = found.map((face) => {
      const { number = next++, probabilities: before = face.probabilities } = past.get(face) ?? {};
      const mix = (value, i) => SMOOTH * before[i] + (1 - SMOOTH) * value;
      return { ...face, number, probabilities: face.probabilities.map(mix), missed: 0 };
    });
    const lost = tracks.filter((track) => !continued.has(track) && track.missed < PATIENCE);
    return tracks = [...now, ...lost.map((track) => ({ ...track, missed: track.missed + 1 }))];
  };
}
