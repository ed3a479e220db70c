/** The longest time between two things of a kind, since it was asked for last. */
final class Gauge {
    private long last = System.nanoTime();
    private long longest;

    synchronized void happened() {
        long now = System.nanoTime();
        longest = Math.max(longest, now - last);
        last = now;
    }

    /** In seconds, with what still lasts. */
    synchronized double take() {
        long now = System.nanoTime();
        double seconds = Math.max(longest, now - last) / 1e9;
        longest = 0;
        last = now;
        return seconds;
    }
}
