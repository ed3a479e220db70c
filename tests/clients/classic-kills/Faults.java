import java.util.ArrayList;
import java.util.List;

/** Rules that were broken. */
final class Faults {
    private static final int SHOWN = 20;

    private final List<String> first = new ArrayList<>();
    private int count;

    synchronized void add(String what) {
        count++;
        if (first.size() < SHOWN) {
            first.add(what);
        }
    }

    synchronized int count() {
        return count;
    }

    synchronized void print() {
        first.forEach(what -> System.out.println("BROKEN " + what));
        if (count > SHOWN) {
            System.out.println("BROKEN and " + (count - SHOWN) + " more");
        }
    }
}
