import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** What was acknowledged and what was received. A key's messages are numbered, and the next is sent when one is acknowledged. */
final class Ledger {
    static final class Key {
        /** All below are acknowledged. */
        volatile int acknowledged;
        /** The last message was tried, and failed, so often. */
        volatile int failures;
        volatile long lastAcknowledged = System.nanoTime();
        private final BitSet received = new BitSet();

        /** False if it was there before. */
        synchronized boolean receive(int number) {
            boolean isNew = !received.get(number);
            received.set(number);
            return isNew;
        }

        /** All below were received. */
        synchronized int received() {
            return received.nextClearBit(0);
        }

        synchronized int lost() {
            int missing = 0;
            for (int number = received.nextClearBit(0); number < acknowledged; number = received.nextClearBit(number + 1)) {
                missing++;
            }
            return missing;
        }
    }

    private final Map<String, Key> keys = new ConcurrentHashMap<>();

    Key key(String name) {
        return keys.computeIfAbsent(name, added -> new Key());
    }

    List<Key> keys() {
        return new ArrayList<>(keys.values());
    }

    int acknowledged() {
        return keys().stream().mapToInt(key -> key.acknowledged).sum();
    }

    int lost() {
        return keys().stream().mapToInt(Key::lost).sum();
    }
}
